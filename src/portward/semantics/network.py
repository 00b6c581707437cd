"""Live traffic: decisions at each port of a path, connections that follow them, and changes (semantics 1, 2, 6).

One ``Network`` is one place where connections are tracked together: a router, or a switch. It has no clock,
so a connection never ends; no routes, so the reverse-path check (semantics 9) comes before it; and it knows
of TCP only what a packet says of itself (``is_invalid``).
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from portward.model import ICMP, ICMPV6, Address, CoveredPort, Direction, HostState, Packet, PortKind
from portward.semantics.base_traffic import decide_base_traffic
from portward.semantics.decide import decide
from portward.semantics.decision import Decision, Reason, Verdict

_QUERIES = {ICMP: frozenset({8, 13, 15, 17}), ICMPV6: frozenset({128})}
#: Neighbour discovery and multicast listener discovery: not tracked, decided packet by packet.
_UNTRACKED_ICMPV6 = frozenset({130, 131, 132, 133, 134, 135, 136, 143})


class Crossing(NamedTuple):
    """A packet crosses port ``port_id`` in ``direction``."""

    port_id: str
    direction: Direction

    @property
    def reverse(self) -> "Crossing":
        """How a reply crosses the same port."""
        return Crossing(self.port_id, self.direction.opposite)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a packet, and the decision of each port that was asked.

    The ports are asked in the order in which the connection's first packet meets them; the one that refuses
    is the last asked. ``by_connection``: no port decided anew, the decisions are those that accepted the
    connection. ``may_be_lost``: the verdict is allow, and a loss is right as well (the exception in semantics 2).
    """

    verdict: Verdict
    decisions: tuple[Decision, ...] = ()
    by_connection: bool = False
    may_be_lost: bool = False


class _Key(NamedTuple):
    """What a connection is recognised by, in one direction."""

    protocol: int
    source: Address
    destination: Address
    source_port: int | None
    destination_port: int | None
    icmp_type: int | None
    icmp_id: int | None


class _Standing(Enum):
    UNJUDGED = auto()  # a change came after it was last judged
    ACCEPTED = auto()
    REFUSED = auto()


class _Connection:
    """A connection that was accepted once, and what the current state says of it."""

    def __init__(self) -> None:
        self.standing = _Standing.UNJUDGED
        #: The decisions that accepted it, by crossing in its original direction.
        self.accepted: dict[Crossing, Decision] = {}

    def forget(self, standing: _Standing) -> None:
        self.standing = standing
        self.accepted.clear()


class Network:
    """The packets of one router or switch, decided under ``state``."""

    def __init__(self, state: HostState) -> None:
        self._connections: dict[_Key, _Connection] = {}
        self.change(state)

    def change(self, state: HostState) -> None:
        """Replace the state: every connection is judged anew when its next packet comes."""
        self._ports = {covered.port.id: covered for covered in state.ports}
        self._policies = {policy.id: policy for policy in state.policies}
        self._sets = {set_.id: set_ for set_ in state.sets}
        for connection in self._connections.values():
            connection.forget(_Standing.UNJUDGED)

    def forward(self, packet: Packet, path: Sequence[Crossing]) -> Outcome:
        """Let ``packet`` cross the ports of ``path``, in that order; ports that the state lacks decide nothing.

        Traffic to or from the router itself has an empty path, and passes.

        Raises:
            InvalidValue: the state breaks what ``decide`` asks of it.
        """
        asked, passed = [], []
        for crossing in path:
            if crossing.port_id not in self._ports:
                continue
            base = self._base_traffic(packet, crossing)
            if base is None:
                asked.append(crossing)
            elif base.verdict is Verdict.ALLOW:
                passed.append(base)
            else:
                return Outcome(verdict=base.verdict, decisions=(base,))
        if passed and not asked:
            return Outcome(verdict=Verdict.ALLOW, decisions=tuple(passed))
        if packet.is_invalid:
            return self._invalid(asked)
        if packet.is_icmp_error:
            return self._error(packet, asked)
        key = _key(packet)
        if key is None:
            return self._judge(packet, asked, None)
        connection, is_reply = self._find(packet)
        if connection is not None and is_reply:
            return self._judge(packet.reply(), _reversed(asked), connection)
        if connection is not None:
            return self._judge(packet, asked, connection)
        if packet.protocol in _QUERIES and packet.icmp_type not in _QUERIES[packet.protocol]:
            return self._invalid(asked)  # an answer that nobody asked for
        connection = _Connection()
        outcome = self._judge(packet, asked, connection)
        if outcome.verdict is Verdict.ALLOW:
            self._connections[key] = connection
        return outcome

    def _find(self, packet: Packet) -> tuple[_Connection | None, bool]:
        """The connection that ``packet`` belongs to, if any, and whether it travels against its first packet."""
        for candidate, is_reply in ((packet, False), (packet.reply(), True)):
            key = _key(candidate)
            if key is not None and key in self._connections:
                return self._connections[key], is_reply
        return None, False

    def _judge(self, packet: Packet, path: Sequence[Crossing], connection: _Connection | None) -> Outcome:
        """Ask the ports of ``path`` for ``packet``, both in the original direction of ``connection``."""
        decisions = []
        by_connection = connection is not None and connection.standing is _Standing.ACCEPTED
        for crossing in path:
            decision = None if connection is None else connection.accepted.get(crossing)
            if decision is None:
                by_connection = False
                decision = decide(packet, crossing.direction, self._ports[crossing.port_id], self._policies, self._sets)
            decisions.append(decision)
            if decision.verdict is not Verdict.ALLOW:
                if connection is not None:
                    connection.forget(_Standing.REFUSED)
                return Outcome(verdict=decision.verdict, decisions=tuple(decisions))
        if connection is not None:
            connection.standing = _Standing.ACCEPTED
            connection.accepted.update(zip(path, decisions, strict=True))
        return Outcome(verdict=Verdict.ALLOW, decisions=tuple(decisions), by_connection=by_connection)

    def _error(self, error: Packet, path: Sequence[Crossing]) -> Outcome:
        """An ICMP error follows the connection that it quotes; rules never judge it."""
        about = error.about
        if about is None or error.destination != about.source:
            return self._invalid(path)
        connection, is_reply = self._find(about)
        if connection is None:
            return self._invalid(path)
        # The error travels against the packet that it quotes.
        original, crossings = (about.reply(), path) if is_reply else (about, _reversed(path))
        covered = [crossing for crossing in crossings if self._covered(crossing).groups]
        if connection.standing is _Standing.REFUSED and covered:
            return _refused(Reason.UNACCEPTED)
        if connection.standing is _Standing.UNJUDGED:
            for crossing in covered:
                now = decide(original, crossing.direction, self._covered(crossing), self._policies, self._sets)
                if now.verdict is not Verdict.ALLOW:
                    return _refused(Reason.UNACCEPTED)
        return Outcome(
            verdict=Verdict.ALLOW,
            decisions=tuple(Decision(verdict=Verdict.ALLOW, reason=Reason.RELATED) for _ in covered),
            by_connection=True,
            may_be_lost=connection.standing is _Standing.UNJUDGED and bool(covered),
        )

    def _invalid(self, path: Sequence[Crossing]) -> Outcome:
        if any(self._covered(crossing).groups for crossing in path):
            return _refused(Reason.INVALID)
        return Outcome(verdict=Verdict.ALLOW)

    def _base_traffic(self, packet: Packet, crossing: Crossing) -> Decision | None:
        port = self._covered(crossing).port
        return decide_base_traffic(packet, crossing.direction, port) if port.kind is PortKind.VM else None

    def _covered(self, crossing: Crossing) -> CoveredPort:
        return self._ports[crossing.port_id]


def _refused(reason: Reason) -> Outcome:
    return Outcome(verdict=Verdict.DENY, decisions=(Decision(verdict=Verdict.DENY, reason=reason),))


def _reversed(path: Sequence[Crossing]) -> list[Crossing]:
    return [crossing.reverse for crossing in reversed(path)]


def _key(packet: Packet) -> _Key | None:
    """What recognises ``packet``'s connection; ``None``: it belongs to none."""
    if packet.is_later_fragment or (packet.protocol == ICMPV6 and packet.icmp_type in _UNTRACKED_ICMPV6):
        return None
    return _Key(
        packet.protocol,
        packet.source,
        packet.destination,
        packet.source_port,
        packet.destination_port,
        packet.icmp_type,
        packet.icmp_id,
    )
