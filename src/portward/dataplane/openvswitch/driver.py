"""The dataplane of VM ports: one bridge, followed through OVSDB, filled through OpenFlow.

What passes is what flows of ours admit, so a port that is not known yet, or not any more, passes nothing, whether the
agent runs or not. It refuses a bridge whose switch would let everything pass when it restarts (fail mode), and leaves
bridges alone as long as no VM port was ever bound on this host.
"""

import contextlib
import select
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from portward.dataplane.addresses import AddressSets
from portward.dataplane.lists import Policies, RuleList, rule_list
from portward.dataplane.netns import in_namespace
from portward.dataplane.openvswitch.bridge import Bridge, Step
from portward.dataplane.openvswitch.found import Found, find
from portward.dataplane.openvswitch.ovsdb import BridgeView, InterfaceView, KeptZone, Ovsdb
from portward.dataplane.openvswitch.plan import Profile, Wanted, number_all
from portward.dataplane.openvswitch.policies import stretches, unmatched
from portward.dataplane.openvswitch.ports import FilteredPort
from portward.dataplane.openvswitch.reflector import Reflector
from portward.dataplane.openvswitch.zones import Zones
from portward.dataplane.protocol import CleanupFailed, DataplaneError, Ledger, Reading
from portward.model import CoveredPort, Direction, HostState, InvalidValue, PortKind, PortReport, PortwardError, Report

_log = structlog.get_logger(__name__)
#: How often a change that somebody else disturbs meanwhile is made again in one go.
_ATTEMPTS = 3
#: How many policies, or stretches of long ones, a packet may be asked of: a switch drops it when its tables lead back
#: more than 63 times.
_LONGEST_LIST = 50
#: Seconds for which a database or a switch that is about to answer is waited for; later it wakes the agent.
_MOMENT = 0.5
_USERSPACE = "netdev"
_Seen = TypeVar("_Seen")


class OpenvswitchDataplane:
    """Enforces VM ports on the bridge ``bridge`` of the switch whose sockets are in ``run_dir``.

    Args:
        bridge: the integration bridge.
        run_dir: where ``db.sock`` and ``<bridge>.mgmt`` are.
        netns: the network namespace that the switch runs in; ``None``: this process' own.
        zones: the first and the last connection-tracking zone that are ours, 1 to 65535.
        uplinks: interfaces of the bridge that carry the network's own traffic and are not filtered.
        beside_security_groups: whether Neutron's own firewall driver has its flows on the bridge.
        ledger: takes what was counted by rules that a change removes; ``None``: that is lost.
        on_step: called after each step of a change.
    """

    def __init__(
        self,
        *,
        bridge: str = "br-int",
        run_dir: Path = Path("/var/run/openvswitch"),
        netns: str | None = None,
        zones: tuple[int, int] = (4096, 65535),
        uplinks: Collection[str] = (),
        beside_security_groups: bool = False,
        ledger: Ledger | None = None,
        on_step: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._name = bridge
        self._run_dir = run_dir
        self._netns = netns
        self._uplinks = frozenset(uplinks)
        self._beside = beside_security_groups
        self._ovsdb = Ovsdb(run_dir)
        self._bridge = Bridge(bridge, run_dir, ledger=ledger, on_step=on_step)
        self._reflector = Reflector(bridge, run_dir)
        self._zones = Zones(*zones)
        self._policies = Policies()
        self._sets = AddressSets()
        self._unfinished = False
        self._said: frozenset[str] = frozenset()
        self._watch = select.epoll()
        for fd in (*self._ovsdb.filenos(), self._bridge.fileno()):
            self._watch.register(fd, select.EPOLLIN)

    def apply(self, state: HostState) -> Report:
        """Enforce ``state`` on all VM ports of the host; see ``Dataplane.apply``."""
        ours, self._unfinished = self._unfinished or self._bridge.is_ours(), False
        ports = [covered for covered in state.ports if covered.port.kind is PortKind.VM]
        try:
            errors = self._enforce(ports, state)
        except (PortwardError, OSError) as error:
            errors = dict.fromkeys((covered.port.id for covered in ports), str(error))
            self._unfinished = ours or self._bridge.is_ours()
            self._hear()
        except MemoryError:
            errors = dict.fromkeys(
                (covered.port.id for covered in ports), "no memory is left for the flows of VM ports"
            )
        reports = tuple(PortReport(port_id=covered.port.id, error=errors.get(covered.port.id)) for covered in ports)
        return Report(generation=state.generation, ports=reports)

    def _enforce(self, ports: list[CoveredPort], state: HostState) -> dict[str, str | None]:
        view = self._await(lambda: self._ovsdb.connected and self._ovsdb.bridge(self._name), bool(ports))
        if not view:
            if not ports:
                self._hear()
                return {}
            raise DataplaneError(
                f"the switch has no bridge {self._name}: make it (ovs-vsctl add-br {self._name} -- "
                f"set-fail-mode {self._name} secure), or name another as [openvswitch] bridge"
                if self._ovsdb.connected
                else "the switch does not answer: is ovsdb-server up, and is [openvswitch] run_dir its directory?"
            )
        self._bridge.connect()
        if not ports and not self._bridge.is_ours() and not self._hear():
            return {}
        self._policies.update(state.policies)
        self._sets.update(state.sets)
        for _ in range(_ATTEMPTS):
            errors = self._attempt(ports, state, view)
            # What the database says meanwhile is not taken: it wakes whoever waits, and is enforced then.
            if not self._bridge.disturbed():
                foreign = self._bridge.foreign(beside=self._beside)
                self._look_again()
                return errors if foreign is None else dict.fromkeys(errors, foreign)
        raise DataplaneError(f"another program changes our flows of bridge {self._name} as fast as they are repaired")

    def _attempt(self, ports: list[CoveredPort], state: HostState, view: BridgeView) -> dict[str, str | None]:
        reflector, reflector_error = self._reflect()
        view = self._ovsdb.bridge(self._name) or view
        found = find(view, ports, admitted=state.admitted, uplinks=self._uplinks, ours=(self._reflector.device,))
        self._say(found)
        userspace = view.datapath_type == _USERSPACE
        errors: dict[str, str | None] = {**found.errors}
        zones = self._take_zones(found)
        filtered: list[FilteredPort] = []
        profiles: dict[str, Profile] = {}
        profile_of: dict[str, str] = {}
        inexact: dict[str, str | None] = {}
        for covered in ports:
            if covered.port.id not in found.interfaces:
                continue
            try:
                egress, ingress = (
                    rule_list(covered, way, self._policies) for way in (Direction.EGRESS, Direction.INGRESS)
                )
            except InvalidValue as error:
                errors[covered.port.id] = f"{error}; nothing passes the port"
                continue
            key = profile_of[covered.port.id] = f"{egress.key} {ingress.key}"
            if key not in profiles:
                named = self._sets.of(sorted(egress.sets | ingress.sets))
                profiles[key] = Profile(egress.parts, ingress.parts, tuple(named.values()))
                inexact[key] = _too_long(egress, ingress) or _inexact(userspace, egress, ingress)
            errors[covered.port.id] = reflector_error or inexact[key]
        numbers = number_all(sorted(profiles))
        for covered in ports:
            if covered.port.id in profile_of:
                number = numbers[profile_of[covered.port.id]]
                filtered.append(_filtered(covered, found.interfaces[covered.port.id], zones[covered.port.id], number))
        self._bridge.enforce(
            Wanted(
                filtered=tuple(filtered),
                admitted=found.admitted,
                profiles={numbers[key]: profile for key, profile in profiles.items()},
                beside=self._beside,
                userspace=userspace,
                reflector=reflector,
            )
        )
        if view.fail_mode != "secure":
            open_ = f"bridge {self._name} would let everything pass when its switch restarts: "
            errors = dict.fromkeys(errors, f"{open_}ovs-vsctl set-fail-mode {self._name} secure")
        elif view.in_band:
            open_ = (
                f"bridge {self._name} passes what is sent to and from those who control the switch, whoever sends it: "
            )
            remedy = f"ovs-vsctl set bridge {self._name} other_config:disable-in-band=true"
            errors = dict.fromkeys(errors, open_ + remedy)
        return errors

    def watched(self) -> Collection[int]:
        """One descriptor, always the same; see ``Dataplane.watched``."""
        return (self._watch.fileno(),)

    def unfinished(self) -> bool:
        """Whether the switch is lost while no port can speak of it; see ``Dataplane.unfinished``."""
        return self._unfinished

    def counters(self) -> Collection[Reading]:
        """What all rules in force have counted; see ``Dataplane.counters``."""
        try:
            found = self._bridge.counters()
        except (PortwardError, OSError) as error:
            _log.warning("counts_not_read", bridge=self._name, reason=str(error))
            self._ovsdb.wake()  # the connection is lost, and is to be made again
            return ()
        self._look_again()
        return found

    def cleanup(self) -> tuple[str, ...]:
        """Remove our flows, the reflector and the zones' marks; see ``Dataplane.cleanup``."""
        has_switch = (self._run_dir / "db.sock").exists()
        if not self._await(lambda: self._ovsdb.connected, has_switch):
            if has_switch:
                raise CleanupFailed(f"bridge {self._name}: the switch does not answer; what was enforced still is")
            return ()
        if self._ovsdb.bridge(self._name) is None:
            return ()
        try:
            was_there = self._bridge.remove()
            self._ovsdb.remove_reflector(self._name)
            self._at_switch(self._reflector.remove)
        except (PortwardError, OSError) as error:
            raise CleanupFailed(
                f"bridge {self._name}: could not be cleaned, what was enforced still is: {error}"
            ) from error
        if not was_there:
            return ()
        return (
            f"bridge {self._name}: VM ports are no longer filtered by Portward; what passes is up to the flows of "
            "others, and without any nothing does in fail mode secure",
        )

    def close(self) -> None:
        """Let go of everything that is open; see ``Dataplane.close``."""
        self._bridge.close()
        self._reflector.close()
        self._ovsdb.close()
        self._watch.close()

    def _hear(self) -> bool:
        """Take what the switch said, which unheard would wake us without a pause; was it about flows of ours?"""
        with contextlib.suppress(DataplaneError):
            return self._bridge.disturbed()
        return False

    def _look_again(self) -> None:
        """Wake whoever waits, if the switch said something among its answers: nothing is readable any more."""
        if self._bridge.has_news():
            self._ovsdb.wake()

    def _reflect(self) -> tuple[int | None, str | None]:
        """The port of what answers rejected packets, and what is wrong with it."""
        try:
            self._at_switch(self._reflector.ensure)
            self._ovsdb.add_reflector(self._name, self._reflector.device)
        except (PortwardError, OSError) as error:
            return None, f"enforced, but rejected packets get no answer: {error}"
        ofport = self._await(self._reflector_port, True)
        if ofport:
            return ofport, None
        return None, f"enforced, but rejected packets get no answer: the switch has not opened {self._reflector.device}"

    def _at_switch(self, do: Callable[[], None]) -> None:
        """Do something where the switch has its devices."""
        if self._netns is None:
            do()
        else:
            in_namespace(self._netns, do)

    def _reflector_port(self) -> int | None:
        view = self._ovsdb.bridge(self._name)
        for interface in view.interfaces if view else ():
            if interface.name == self._reflector.device:
                return interface.ofport
        return None

    def _await(self, look: Callable[[], _Seen | Literal[False] | None], patient: bool) -> _Seen | None:
        """What ``look`` sees in the database; if ``patient``, it is given a moment to see something."""
        deadline = time.monotonic() + _MOMENT * patient
        while True:
            self._ovsdb.update()
            seen = look()
            left = deadline - time.monotonic()
            if seen or left <= 0:
                return seen or None
            select.select(self._ovsdb.filenos(), [], [], left)

    def _take_zones(self, found: Found) -> dict[str, int]:
        """The zone of each port found; one that is new to it is empty, and each is written down, before it is used.

        A port that comes back on another interface before anybody saw it gone has its zone, and that knows of none.
        """
        kept = {
            id_: interface.zone.number if interface.zone and interface.zone.port_id == id_ else None
            for id_, interface in found.interfaces.items()
        }
        zones, new = self._zones.give(kept)
        for id_ in new:
            self._bridge.flush_zone(zones[id_])
        if zones != kept:
            known = found.interfaces
            self._ovsdb.set_zones(
                {known[id_].name: KeptZone(zone, id_) for id_, zone in zones.items() if zone != kept[id_]}
            )
        return zones

    def _say(self, found: Found) -> None:
        unknown = frozenset(found.unknown)
        for name in unknown - self._said:
            _log.warning("interface_unknown", bridge=self._name, interface=name, consequence="nothing passes it")
        self._said = unknown


def _filtered(covered: CoveredPort, interface: InterfaceView, zone: int, profile: int) -> FilteredPort:
    assert interface.ofport is not None
    return FilteredPort(
        port=covered.port, ofport=interface.ofport, network=interface.tag or 0, zone=zone, profile=profile
    )


def _too_long(*lists: RuleList) -> str | None:
    """What is wrong with lists of more policies than a switch can ask."""
    longest = max(sum(1 for part in list_.parts if part.rules for _ in stretches(part.rules)) for list_ in lists)
    if longest <= _LONGEST_LIST:
        return None
    return (
        f"{longest} policies decide in one direction, and a switch can ask {_LONGEST_LIST}: what those do not decide "
        "may be denied; put the rules of some together"
    )


def _inexact(userspace: bool, *lists: RuleList) -> str | None:
    """What is wrong with the rules of the lists, as far as the switch cannot decide by them."""
    return next(
        (
            problem
            for list_ in lists
            for part in list_.parts
            if (problem := unmatched(part.rules, userspace=userspace)) is not None
        ),
        None,
    )
