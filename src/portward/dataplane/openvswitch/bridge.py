"""One bridge: what flows of ours stand there, and how they come to be those that are wanted.

A change is one atomic bundle of the difference, over one connection that lives as long as the switch. What stands is
asked of the switch when the connection is new or somebody else changed a flow of ours; then the accepted connections
are judged once more. Refuses to change flows without our cookie.
"""

import contextlib
import hashlib
import select
import time
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import structlog

from portward.dataplane.openvswitch.codec import Command, encode_actions
from portward.dataplane.openvswitch.flows import Field, Flow, FlowKey, FlowStats, Load
from portward.dataplane.openvswitch.layout import COOKIE, COOKIE_MASK, LEARNT_COOKIE, MARK_BITS, Table
from portward.dataplane.openvswitch.openflow import FlowChange, OpenflowConnection, Refused
from portward.dataplane.openvswitch.plan import Plan, Wanted, changes, counting, plan
from portward.dataplane.openvswitch.tables import HOOKED, TO_EGRESS, flow
from portward.dataplane.openvswitch.vswitchd import Vswitchd
from portward.dataplane.protocol import Count, DataplaneError, Ledger, Reading

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
_OURS = frozenset(Table) - {Table.CLASSIFY}
#: Where flows of ours can be disturbed, or gone around. What the switch learns by itself would wake us for each MAC.
_WATCHED = sorted({*Table, *HOOKED} - {Table.LEARNT, Table.TICK})
_ROUNDS = 2
#: Written by the switch itself, or to no purpose but to wake it: no part of what is wanted.
_NOT_PLANNED = (Table.LEARNT, Table.TICK)
#: Epochs grow by time, so that marks of an earlier life of the switch are never those of a later one: two a second,
#: from 2023 to 2040.
_EPOCHS_A_SECOND, _EPOCHS_FROM = 2, 1_700_000_000


class Step(StrEnum):
    """The steps of a change, in order. After each, what is denied is denied, should the agent die there."""

    COMMITTED = "committed"  # the switch has the flows
    REALISED = "realised"  # and no packet is treated as before


class Bridge:
    """The flows of ours on the bridge ``name``.

    Args:
        name: of the bridge.
        run_dir: where the switch has its sockets.
        ledger: takes what was counted by flows that a change removes; ``None``: that is lost.
        on_step: called after each step of a change.
    """

    def __init__(self, name: str, run_dir: Path, *, ledger: Ledger | None, on_step: Callable[[Step], None]) -> None:
        self._name = name
        self._path = run_dir / f"{name}.mgmt"
        self._vswitchd = Vswitchd(run_dir)
        self._ledger = ledger
        self._on_step = on_step
        self._watch = select.epoll()
        self._connection: OpenflowConnection | None = None
        self._stands: dict[FlowKey, FlowStats] | None = None  # what an earlier life left; ``None``: ``_plan`` stands
        self._plan = Plan()
        self._wanted: Wanted | None = None
        self._realised = True
        self._rules: dict[FlowKey, str] = {}  # the rule of each flow that counts
        self._going: dict[FlowKey, str] = {}  # the same of those that are deleted, and whose counts are still to come
        self._foreign_seen = False
        self._strange: list[int] = []
        self._unhooked = False  # whether hooks of ours were found gone
        self._sent: dict[int, int] = {}  # frames by port, when ``_decided`` had been let through by us
        self._decided = 0
        self._epoch = self._ticks = 0

    def fileno(self) -> int:
        """A descriptor, always the same: readable when the switch said something."""
        return self._watch.fileno()

    def connect(self) -> None:
        """Connect to the switch, if that is needed, and see what flows of ours stand there.

        Raises:
            DataplaneError: it does not answer.
        """
        if self._connection is not None:
            return
        connection = OpenflowConnection(self._path)
        try:
            connection.monitor(_WATCHED)
            self._watch.register(connection.fileno(), select.EPOLLIN)
            self._connection = connection
            self._look()
        except BaseException:
            self._disconnect(connection)
            raise

    def enforce(self, wanted: Wanted) -> None:
        """Have the bridge enforce ``wanted``; sends nothing when it does already.

        Raises:
            DataplaneError: something was refused. What stood before stands, unless the message says that ``wanted``
                does.
        """
        try:
            self._enforce(wanted)
        except DataplaneError:
            with contextlib.suppress(DataplaneError):
                self.disturbed()  # unheard, it would wake us without a pause, and the next attempt knew nothing of it
            raise

    def _enforce(self, wanted: Wanted) -> None:
        if self._stands is not None or wanted != self._wanted:
            epoch = self._next_epoch()
            made = plan(wanted, self._plan, epoch)
            gone, come = self._difference(made)
            # One that is replaced would take its counts with it; of one that is deleted the switch tells them.
            gone = [*gone, *(flow.key for flow in come if flow.key in self._rules)]
            if any(key in self._rules for key in gone):
                self._settle(1, userspace=wanted.userspace)  # what its caches have counted is the flows' from then on
            self._unhooked |= self._stands is not None and any(flow.key.table in HOOKED for flow in come)
            if gone or come:
                self._commit(gone, come, COOKIE | epoch, learnt=made.places != self._plan.places)
                self._realised = False
            self._plan, self._wanted, self._stands = made, wanted, None
            self._epoch = max([self._epoch, *(mark for _, mark in made.epochs.values())])
            self._going |= {key: self._rules[key] for key in gone if key in self._rules}
            self._rules = counting(made)
            self._keep_counts()
            self._on_step(Step.COMMITTED)
        if not self._realised:
            self._realise(wanted)
            self._realised = True
            self._on_step(Step.REALISED)

    def _realise(self, wanted: Wanted) -> None:
        """Wait until no packet is treated as before; tell what came to machines while hooks of ours were gone."""
        if wanted.beside:
            sent = self._using(lambda connection: connection.sent())
            self._settle(_ROUNDS, userspace=wanted.userspace)
            delivered = self._delivered()
            if self._unhooked and self._sent:
                came = sum(
                    max(0, sent.get(port.ofport, 0) - self._sent.get(port.ofport, 0)) for port in wanted.filtered
                )
                decided = delivered - self._decided
                _log.warning(
                    "hooks_were_gone", bridge=self._name, undecided=max(0, came - decided), undecided_at_most=came
                )
            self._unhooked = False
            self._sent, self._decided = self._using(lambda connection: connection.sent()), delivered
        else:
            self._settle(_ROUNDS, userspace=wanted.userspace)

    def _delivered(self) -> int:
        """How many frames our decisions have let through to machines."""
        found = self._using(lambda connection: connection.dump(COOKIE, COOKIE_MASK, Table.ADMIT))
        return sum(stats.packets for stats in found if stats.key.priority != TO_EGRESS)

    def _settle(self, rounds: int, *, userspace: bool) -> None:
        """Have the switch look through its caches so many times."""
        if userspace:
            self._vswitchd.purge(rounds)
        else:
            self._vswitchd.wait_for_revalidators(rounds, self._tick)

    def _difference(self, made: Plan) -> tuple[Collection[FlowKey], Collection[Flow]]:
        if self._stands is None:
            gone, come = changes(self._plan.sections, made.sections)
            return [flow.key for flow in gone], come
        wanted = {flow.key: flow for section in made.sections.values() for flow in section.flows}
        come = [
            flow
            for key, flow in wanted.items()
            if (stats := self._stands.get(key)) is None or stats.actions != encode_actions(flow.actions)
        ]
        return [key for key in self._stands if key not in wanted], come

    def disturbed(self) -> bool:
        """Whether somebody else changed a flow of ours since this was last asked; then all is looked at anew."""
        events = self._using(lambda connection: connection.events())
        self._keep_counts()
        self._foreign_seen |= bool(events)
        # One that took the place of ours, by its match and priority, has a cookie of its own: ours is gone with it.
        ours = {flow.key for section in self._plan.sections.values() for flow in section.flows} if events else set()
        if not any(event.cookie & COOKIE_MASK == COOKIE or event.key in ours for event in events):
            return False
        _log.warning("flows_disturbed", bridge=self._name, tables=sorted({event.key.table for event in events}))
        self._look()
        return True

    def foreign(self, *, beside: bool) -> str | None:
        """What flows of others make our decisions worth nothing, if there are some."""
        if self._foreign_seen:
            self._foreign_seen = False
            self._strange = self._strangers()
        tables = [table for table in self._strange if table in _OURS or (table == Table.CLASSIFY and not beside)]
        if not tables:
            return None
        remedy = "" if beside else "; where Neutron's firewall works, set [openvswitch] beside_security_groups"
        return f"another program has flows in table {tables[0]} of bridge {self._name}: remove them{remedy}"

    def has_news(self) -> bool:
        """Whether there is something to look at of which the descriptor says nothing any more."""
        return self._connection is not None and self._connection.has_events

    def is_ours(self) -> bool:
        """Whether flows of ours stand on the bridge."""
        return bool(self._plan.sections or self._stands)

    def flush_zone(self, zone: int) -> None:
        """Have the switch forget all connections of ``zone``.

        Raises:
            DataplaneError: it does not answer.
        """
        self._using(lambda connection: connection.flush_zone(zone))

    def counters(self) -> tuple[Reading, ...]:
        """What the flows of rules have counted since they were installed.

        Raises:
            DataplaneError: the switch does not answer.
        """
        if not self._rules:
            return ()
        found = self._using(lambda connection: connection.dump(COOKIE, COOKIE_MASK, Table.POLICY))
        self._keep_counts()
        return self._readings((stats, self._rules.get(stats.key)) for stats in found)

    def remove(self) -> bool:
        """Delete all flows of ours; were there some?

        Raises:
            DataplaneError: the switch does not answer, or refuses.
        """
        self.connect()
        found = self._using(lambda connection: connection.dump(COOKIE, COOKIE_MASK))
        gone = [FlowChange(Command.DELETE_STRICT, Flow(stats.key, ()), 0) for stats in found]
        self._using(lambda connection: connection.commit(gone))
        self._plan, self._wanted, self._stands, self._rules, self._going = Plan(), None, {}, {}, {}
        return bool(found)

    def close(self) -> None:
        """Let go of the connections. What is enforced stays enforced."""
        if self._connection is not None:
            self._disconnect(self._connection)
        self._vswitchd.close()
        self._watch.close()

    @property
    def _open(self) -> OpenflowConnection:
        if self._connection is None:
            raise DataplaneError(f"the switch does not answer for bridge {self._name}: is ovs-vswitchd up?")
        return self._connection

    def _using(self, call: Callable[[OpenflowConnection], _Result]) -> _Result:
        """What ``call`` returns; a connection on which something is not certain any more is not used again."""
        connection = self._open
        try:
            return call(connection)
        except Refused:
            raise
        except BaseException:
            self._disconnect(connection)
            raise

    def _disconnect(self, connection: OpenflowConnection) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._watch.unregister(connection.fileno())
        connection.close()
        self._connection = None
        self._plan, self._wanted, self._stands, self._rules, self._going = Plan(), None, None, {}, {}
        self._sent, self._realised = {}, False

    def _look(self) -> None:
        """Learn what flows of ours stand; the next change is made from these."""
        found = self._using(lambda connection: connection.dump(COOKIE, COOKIE_MASK))
        self._stands = {stats.key: stats for stats in found if stats.key.table not in _NOT_PLANNED}
        self._plan, self._wanted = Plan(), None
        marks = [
            condition.value >> MARK_BITS
            for stats in found
            if stats.key.table == Table.STATE
            for condition in stats.key.match
            if condition.field is Field.CT_MARK
        ]
        self._epoch = max([self._epoch, *marks])
        self._foreign_seen = True

    def _strangers(self) -> list[int]:
        found = self._using(lambda connection: connection.dump(0, 0))
        return sorted(
            {
                stats.key.table
                for stats in found
                if stats.cookie & COOKIE_MASK != COOKIE and (stats.key.table != Table.CLASSIFY or stats.key.priority)
            }
        )

    def _commit(self, gone: Collection[FlowKey], come: Collection[Flow], cookie: int, *, learnt: bool) -> None:
        forget = (FlowChange(Command.DELETE, Flow(FlowKey(Table.LEARNT, 0, ()), ()), LEARNT_COOKIE),) if learnt else ()
        changes = (
            *forget,
            *(FlowChange(Command.DELETE_STRICT, Flow(key, ()), 0) for key in gone),
            *(FlowChange(Command.ADD, flow, cookie, told=flow.key.table == Table.POLICY) for flow in come),
        )
        self._using(lambda connection: connection.commit(changes))

    def _tick(self) -> None:
        """Change something that no packet sees, which has the next round begin at once."""
        self._ticks += 1
        tick = flow(Table.TICK, 0, [], Load(Field.REG0, self._ticks & 0xFFFF))
        self._using(lambda connection: connection.commit([FlowChange(Command.ADD, tick, COOKIE)]))

    def _readings(self, found: Iterable[tuple[FlowStats, str | None]]) -> tuple[Reading, ...]:
        """What flows have counted, of those that have a rule."""
        readings = []
        for stats, rule in found:
            if rule is not None:
                place = f"{self._name}/{stats.cookie:x}/{_digest(stats.key)}"
                readings.append(Reading(place, {rule: Count(stats.packets, stats.bytes)}))
        return tuple(readings)

    def _next_epoch(self) -> int:
        self._epoch = max(self._epoch + 1, int((time.time() - _EPOCHS_FROM) * _EPOCHS_A_SECOND))
        return self._epoch

    def _keep_counts(self) -> None:
        """Hand to the ledger what flows had counted of which the switch has said by now that they are gone.

        It says so some time after it has deleted them.
        """
        removed = self._using(lambda connection: connection.removed())
        readings = self._readings(
            (stats, self._going.pop(stats.key, None) or self._rules.get(stats.key)) for stats in removed
        )
        if self._ledger is not None and readings:
            self._ledger.keep(readings)
            self._ledger.forget(readings)


def _digest(key: FlowKey) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:12]
