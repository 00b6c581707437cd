"""Random policies and packets at their borders through a router: what comes out is what the golden model says.

A round enforces new policies, sends first packets between the ends, and now and then answers some of them, changes the
policies, and sends on. Whatever kind of port decides: a wire sends and sees (``wire``), ``enforce`` puts guards on
ports. What a run has covered is counted, and ``Counts.check`` says whether it was enough.
"""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from packets.borders import Target, border_count, borders, first_matched, packet_in, regions, strangers, within
from packets.builders import ALLOW_ALL, Guard
from packets.counts import Counts
from packets.frames import answer_of, encode, ident_of, packet_of
from packets.policies import EVERY, edited, random_policy
from packets.wire import End, Frame, RouterWire
from packets.wording import Wording
from portward.compiler import compile_rules
from portward.model import SCTP, TCP, UDP, Direction, HostState, Packet, Policy
from portward.semantics import Crossing, Network, Verdict


class Difference(AssertionError):
    """The ports and the model do not say the same of a packet."""


_REPLIED = 60  # connections of a round that live on, at most


@dataclass
class _Connection:
    """A connection of a round: its first packet, where it enters and leaves, and what of it arrived."""

    ident: int
    packet: Packet
    sender: str
    receiver: str
    arrived: Packet | None = None  # as its receiver saw it, behind address translation


@dataclass
class _Audit:
    """A policy whose every rule has to decide a packet from ``sender`` to ``receiver``."""

    policy: Policy
    sender: End
    receiver: End
    unreachable: set[str] = field(default_factory=set)


class Differential:
    """Compares the ports of ``wire`` under ``enforce`` with the model, round by round, the same for every seed."""

    def __init__(self, wire: RouterWire, enforce: Callable[..., HostState], seed: int) -> None:
        self._wire = wire
        self._enforce = enforce
        self.chance = random.Random(seed)
        self._seed = seed
        print(f"\nseed {seed}", flush=True)
        self._ident = 0
        self._connections: list[_Connection] = []
        self._sent: set[Packet] = set()
        self._ways: set[tuple[object, ...]] = set()
        self._decided: set[str] = set()
        self.counts = Counts()

    def __str__(self) -> str:
        return f"seed {self._seed}: {self.counts}"

    def round(
        self,
        size: int,
        *,
        narrow: float,
        covered: Sequence[str] = ("red", "blue"),
        protocols: Collection[int] = EVERY,
        change: bool = False,
    ) -> None:
        """One round, its longest policy of ``size`` rules; with ``change`` a change of policies under connections.

        Raises:
            Difference: something came out, or not, against the model.
            AssertionError: a rule decided nothing that should.
        """
        self.counts.rounds += 1
        self._connections, self._sent, self._ways, self._decided = [], set(), set(), set()
        self._wire.forget_connections()
        sender, receiver = self.chance.sample(list(self._wire.ends.values()), 2)
        while not {sender.name, receiver.name} & set(covered):
            sender, receiver = self.chance.sample(list(self._wire.ends.values()), 2)
        guards, audits = self._guards(sender, receiver, size, narrow, covered, protocols)
        wording = Wording(self.chance)
        network = Network(self._enforce_as(wording, guards))
        for audit in audits:
            self._aim(audit, protocols)
        others = [policy for policy in _policies(guards) if all(policy is not audit.policy for audit in audits)]
        for policy in others:
            for one, other in ((sender, receiver), (receiver, sender)):
                for rule in policy.rules[:20]:
                    for protocol in [rule.protocol] if rule.protocol is not None else [TCP, UDP]:
                        for box in regions(rule, protocol, one, other) if protocol in protocols else []:
                            self._add(packet_in(box, rule.ip_version, protocol, self.chance), one, other)
        self._compare(network, [(connection, False) for connection in self._connections], "first packets")
        for audit in audits:
            self._account(audit)
        self.counts.policies += len(_policies(guards))
        if change:
            self._live(network, guards, wording)

    def _guards(
        self,
        sender: End,
        receiver: End,
        size: int,
        narrow: float,
        covered: Sequence[str],
        protocols: Collection[int],
    ) -> tuple[dict[str, Guard], list[_Audit]]:
        """Guards for the ports on the way, and the policies of them that alone decide on it."""
        chance = self.chance

        def drawn(one: End, other: End, size: int) -> Policy:
            return random_policy(chance, one, other, size, narrow=narrow, protocols=protocols)

        main = drawn(sender, receiver, size)
        back = chance.choice((None, ALLOW_ALL, drawn(receiver, sender, min(size, 6))))
        where = chance.choice(
            [way for way, end in (("egress", sender), ("ingress", receiver)) if end.name in covered]
            + ["both"] * ({sender.name, receiver.name} <= set(covered))
        )
        guards: dict[str, Guard] = {}
        audits = [_Audit(main, sender, receiver)]
        if where in ("egress", "both"):
            guards[sender.name] = Guard(egress=main, ingress=back)
        if where in ("ingress", "both"):
            then = main if where == "ingress" else chance.choice((main, drawn(sender, receiver, min(size, 8))))
            guards[receiver.name] = Guard(ingress=then, egress=back)
        if where == "ingress" and sender.name in covered and chance.random() < 0.5:
            guards[sender.name] = Guard(egress=ALLOW_ALL, ingress=back)
        if chance.random() < 0.05:
            name = chance.choice(list(guards))
            guards[name] = Guard(guards[name].ingress, guards[name].egress, up=False)
            audits = []
        return guards, audits

    def _aim(self, audit: _Audit, protocols: Collection[int]) -> None:
        """Packets for every rule: one it decides, and both sides of each of its borders."""
        rules, chance = audit.policy.rules, self.chance
        for place, rule in enumerate(rules):
            target = first_matched(rules, place, audit.sender, audit.receiver, protocols, chance)
            if target is not None:
                packet = packet_in(target.box, rule.ip_version, target.protocol, chance)
                self._add(packet, audit.sender, audit.receiver)
            else:
                audit.unreachable.add(rule.id)
                target = self._anywhere(audit, place, protocols)
            self.counts.borders += 4 * border_count(rule)
            if target is None:
                self.counts.nowhere += 4 * border_count(rule)
                continue
            for border, inside in borders(rule, target, chance):
                if border is None or not _possible(border, audit.sender, audit.receiver):
                    self.counts.nowhere += 1
                elif self._add(border, audit.sender, audit.receiver):
                    self.counts.inside_borders += inside
                    self.counts.outside_borders += not inside
            for packet in strangers(rule, target, audit.sender, audit.receiver, protocols, chance):
                self._add(packet, audit.sender, audit.receiver)

    def _anywhere(self, audit: _Audit, place: int, protocols: Collection[int]) -> Target | None:
        """What an unreachable rule matches, whoever decides it."""
        rule = audit.policy.rules[place]
        return first_matched((rule,), 0, audit.sender, audit.receiver, protocols, self.chance)

    def _add(self, packet: Packet, sender: End, receiver: End) -> bool:
        """Have ``packet`` sent, once; whether it can be, and is not a reply to another."""
        if not _possible(packet, sender, receiver):
            return False
        way, back = _tracked(packet), _tracked(packet.reply())
        if back in self._ways and back != way:
            return False
        if packet not in self._sent:
            self._ident += 1
            self._sent.add(packet)
            self._ways.add(way)
            self._connections.append(_Connection(self._ident, packet, sender.name, receiver.name))
        return True

    def _enforce_as(self, wording: Wording, guards: dict[str, Guard]) -> HostState:
        worded = {name: wording.guard(guard) for name, guard in guards.items()}
        self.counts.sets += len(wording.sets)
        return self._enforce(sets=wording.sets, **worded)

    def _live(self, network: Network, guards: dict[str, Guard], wording: Wording) -> None:
        """Some connections are answered, policies and members of address sets change, and both sides go on."""
        lasting = [connection for connection in self._connections if connection.arrived is not None]
        self.chance.shuffle(lasting)
        lasting = lasting[:_REPLIED]
        answered = lasting[: len(lasting) // 2]
        self._compare(network, [(connection, True) for connection in answered], "replies")
        changed = {policy.id: edited(self.chance, policy) for policy in _policies(guards) if policy is not ALLOW_ALL}
        after = {
            name: Guard(
                ingress=_replaced(guard.ingress, changed),
                egress=_replaced(guard.egress, changed),
                up=guard.up,
                id=guard.id,
            )
            for name, guard in guards.items()
        }
        if self.chance.random() < 0.3:
            after = guards  # sets alone
        wording.turn()
        network.change(self._enforce_as(wording, after))
        passed = self.counts.passed
        sent = [(connection, self.chance.random() < 0.5) for connection in lasting]
        self._compare(network, sent, "stale packets")
        self.counts.replies += len(answered)
        self.counts.rejudged += len(sent)
        self.counts.cut += len(sent) - (self.counts.passed - passed)

    def _compare(self, network: Network, sent: Sequence[tuple[_Connection, bool]], what: str) -> None:
        """Send a packet of each connection, or (true) a reply, and compare."""
        seen = self._wire.exchange([self._frame(connection, is_reply) for connection, is_reply in sent])
        by_ident: dict[int, list[Frame]] = {}
        for frame in seen:
            ident = ident_of(frame.data)
            if ident is not None:
                by_ident.setdefault(ident, []).append(frame)
        wrong = []
        for connection, is_reply in sent:
            found = by_ident.get(connection.ident, [])
            problem = self._judge(network, connection, is_reply, found)
            if problem is not None:
                wrong.append(f"{connection.packet} {'answered' if is_reply else 'sent'} {problem}")
        head = f"seed {self._seed}, round {self.counts.rounds}, {what}: {len(wrong)} of {len(sent)} against the model"
        if wrong:
            raise Difference("\n".join([head, *wrong[:10]]))

    def _frame(self, connection: _Connection, is_reply: bool) -> Frame:
        if not is_reply:
            packet = self._wire.before_translation(connection.packet, connection.sender)
            return Frame(connection.sender, encode(packet, connection.ident))
        assert connection.arrived is not None
        return Frame(connection.receiver, encode(connection.arrived.reply(), connection.ident, is_reply=True))

    def _judge(self, network: Network, connection: _Connection, is_reply: bool, found: Sequence[Frame]) -> str | None:
        """What is wrong with what came out, if anything."""
        names = (connection.sender, connection.receiver)
        entered, left = names[::-1] if is_reply else names
        path = [
            Crossing(self._wire.ends[entered].port_id, Direction.EGRESS),
            Crossing(self._wire.ends[left].port_id, Direction.INGRESS),
        ]
        outcome = network.forward(connection.packet.reply() if is_reply else connection.packet, path)
        self.counts.packets += 1
        self._decided |= {decision.rule_id for decision in outcome.decisions if decision.rule_id}
        passed = [frame for frame in found if answer_of(frame.data) is None]
        answers = [(frame.end, answer_of(frame.data)) for frame in found if answer_of(frame.data) is not None]
        self.counts.answered += len(answers)
        if outcome.verdict is Verdict.ALLOW:
            self.counts.passed += 1
            if [frame.end for frame in passed] != [left] or answers:
                return f"should pass from {entered} to {left}: {_told(found)}"
            if not is_reply:
                connection.arrived = packet_of(passed[0].data)
        elif outcome.verdict is Verdict.DENY:
            self.counts.denied += 1
            if found:
                return f"should be dropped between {entered} and {left}: {_told(found)}"
        else:
            self.counts.rejected += 1
            # Above a rate a rejected packet is dropped in silence.
            if passed or answers not in ([], [(entered, outcome.decisions[-1].answer)]):
                return f"should be rejected between {entered} and {left}: {_told(found)}"
        return None

    def _account(self, audit: _Audit) -> None:
        """Each rule decided a packet, or no packet between these ends can reach it."""
        form = compile_rules(audit.policy.rules)
        told = form.unreachable
        self.counts.add_shapes(form)
        for place, rule in enumerate(audit.policy.rules):
            self.counts.rules += 1
            if not rule.enabled:
                self.counts.disabled += 1
                assert rule.id not in self._decided
                assert place in told
            elif rule.id in audit.unreachable:
                self.counts.unreachable += 1
                self.counts.told_by_the_compiler += place in told
                assert rule.id not in self._decided
            else:
                assert rule.id in self._decided, f"{rule} decided no packet"
                assert place not in told, f"the compiler drops {rule}, which decides packets"
                self.counts.rules_that_decided += 1


def _possible(packet: Packet, sender: End, receiver: End) -> bool:
    if packet.protocol in (TCP, UDP):
        lowest = max(sender.lowest_port, receiver.lowest_port)
        if min(packet.source_port or 0, packet.destination_port or 0) < lowest:
            return False
    return within(sender, packet.source) and within(receiver, packet.destination)


def _told(found: Sequence[Frame]) -> str:
    return ", ".join(f"{answer_of(it.data) or 'passed'} at {it.end}" for it in found) or "nothing came out"


def _policies(guards: dict[str, Guard]) -> list[Policy]:
    found: dict[str, Policy] = {}
    for guard in guards.values():
        found |= {policy.id: policy for policy in (guard.ingress, guard.egress) if policy is not None}
    return list(found.values())


def _replaced(policy: Policy | None, changed: dict[str, Policy]) -> Policy | None:
    return None if policy is None else changed.get(policy.id, policy)


def _tracked(packet: Packet) -> tuple[object, ...]:
    """What a router tells connections by: what it does not look into, DCCP among it, by addresses alone."""
    ports = (packet.source_port, packet.destination_port) if packet.protocol in (TCP, UDP, SCTP) else ()
    return packet.protocol, packet.source, packet.destination, *ports, packet.icmp_type, packet.icmp_id
