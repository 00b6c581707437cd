"""Connection tracking as the userspace datapath of Open vSwitch 3.1 does it (its lib/conntrack*.c).

Connections never end here, and every segment of a known TCP connection lies in its window.
"""

from typing import NamedTuple

from fake_switch.fields import Fields, forget_tracking, is_icmp
from fake_switch.frame import ACK, FIN, IPV4, PSH, RST, SYN, Fragment, Frame
from portward.dataplane.openvswitch.flows import CtState, Field
from portward.model import ICMP, TCP, UDP, Address

_QUERIES = {ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15}, 58: {128: 129, 129: 128}}
_ASKING = {ICMP: {8, 13, 15}, 58: {128}}
_ERRORS = {ICMP: {3, 4, 5, 11, 12}, 58: {1, 2, 3, 4}}


class Key(NamedTuple):
    """What a connection is recognised by: in one direction. Of ICMP the ports are (id, type)."""

    protocol: int
    source: Address | None
    destination: Address | None
    source_port: object
    destination_port: object

    @property
    def reverse(self) -> "Key":
        return Key(self.protocol, self.destination, self.source, self.destination_port, self.source_port)


class _Tcp:
    """How far the two sides of a TCP connection are, as pf(4) counts it; sides are named by whether they answer."""

    _CLOSED, _SYN_SENT, _ESTABLISHED, _CLOSING, _FIN_WAIT, _TIME_WAIT = range(6)

    def __init__(self) -> None:
        self._sides = {False: self._SYN_SENT, True: self._CLOSED}

    @property
    def is_over(self) -> bool:
        return min(self._sides.values()) >= self._FIN_WAIT

    def update(self, flags: int, side: bool) -> int | None:
        """The state of a segment from ``side``, if it is not that of an established connection."""
        if _is_nonsense(flags):
            return CtState.INV
        if flags & (SYN | ACK) == SYN and self._sides[side] <= self._SYN_SENT:
            self._sides[side] = self._SYN_SENT
            return CtState.NEW  # also of one who answers a SYN with a SYN
        self._sides[side] = max(self._sides[side], self._CLOSING if flags & FIN else self._SYN_SENT)
        if flags & ACK and self._sides[not side] == self._SYN_SENT:
            self._sides[not side] = self._ESTABLISHED
        elif flags & ACK and self._sides[not side] == self._CLOSING:
            self._sides[not side] = self._FIN_WAIT
        if flags & RST:
            self._sides = dict.fromkeys(self._sides, self._TIME_WAIT)
        return None


class Connection:
    """An entry of a zone; ``key`` is that of its first packet."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.mark = 0
        self.is_answered = False
        self.tcp = _Tcp()


class Zone:
    """The connections of one zone."""

    def __init__(self) -> None:
        self._connections: dict[Key, Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def marks(self) -> dict[Key, int]:
        """The mark of each connection, by the key of its first packet."""
        return {key: connection.mark for key, connection in self._connections.items()}

    def track(self, fields: Fields, frame: Frame) -> None:
        """Write to ``fields`` what the zone knows of ``frame``, and note in the zone that it came."""
        forget_tracking(fields)
        key, is_related = _key(frame)
        connection, is_reply = self._find(key)
        if (
            connection is not None
            and not is_related
            and frame.tcp_flags & (SYN | ACK) == SYN
            and connection.tcp.is_over
        ):
            del self._connections[connection.key]
            connection = None
        if key is None or (is_related and connection is None):
            state = CtState.INV
        elif connection is None:
            state = CtState.NEW if _may_begin(frame) else CtState.INV
        elif is_related:
            state = CtState.REL | (CtState.RPL if is_reply else 0)
        else:
            state = _update(connection, frame, is_reply)
        fields[Field.CT_STATE] = CtState.TRK | state
        original = connection.key if connection else key
        if connection is not None:
            fields[Field.CT_MARK] = connection.mark
        if original is not None:
            _write_tuple(fields, original, frame.eth_type == IPV4)
        if frame.fragment is Fragment.LATER:  # the switch does not even look
            fields[Field.CT_TP_SRC] = fields[Field.CT_TP_DST] = 0

    def commit(self, frame: Frame, mark: int) -> None:
        """Make an entry for ``frame``, if it may have one and has none, and mark it."""
        key, is_related = _key(frame)
        if key is None:
            return
        connection, _ = self._find(key)
        if connection is None and not is_related and _may_begin(frame):
            connection = self._connections[key] = Connection(key)
        if connection is not None:
            connection.mark = mark

    def _find(self, key: Key | None) -> tuple[Connection | None, bool]:
        if key is None:
            return None, False
        if key in self._connections:
            return self._connections[key], False
        return self._connections.get(key.reverse), True


def _key(frame: Frame) -> tuple[Key | None, bool]:
    """What ``frame`` is recognised by, and whether that is the reverse of what it quotes; ``None``: not tracked."""
    if frame.is_damaged:
        return None, False
    if is_icmp(frame):
        if frame.icmp_type in _QUERIES[frame.protocol]:
            if frame.icmp_code != 0:
                return None, False
            answer = _QUERIES[frame.protocol][frame.icmp_type]
            query = (frame.icmp_id, frame.icmp_type), (frame.icmp_id, answer)
            return Key(frame.protocol, frame.source, frame.destination, *query), False
        about = frame.about
        if frame.icmp_type not in _ERRORS[frame.protocol] or about is None or about.source != frame.destination:
            return None, False
        quoted, is_error_itself = _key(about)
        return (None if quoted is None or is_error_itself else quoted.reverse), True
    ports = (frame.source_port, frame.destination_port) if frame.protocol in (TCP, UDP) else (0, 0)
    return Key(frame.protocol, frame.source, frame.destination, *ports), False


def _may_begin(frame: Frame) -> bool:
    """Whether a connection may begin with it."""
    if is_icmp(frame):
        return frame.icmp_type in _ASKING[frame.protocol]
    if frame.protocol != TCP:
        return True
    return not _is_nonsense(frame.tcp_flags) and frame.tcp_flags & (SYN | ACK) != SYN | ACK


def _is_nonsense(flags: int) -> bool:
    if flags & SYN and flags & (RST | FIN):
        return True
    if not flags & SYN and not flags & (ACK | RST):
        return True
    return not flags & ACK and bool(flags & (FIN | PSH))


def _update(connection: Connection, frame: Frame, is_reply: bool) -> int:
    """The state of ``frame``, which belongs to ``connection``."""
    if frame.protocol == TCP:
        state = connection.tcp.update(frame.tcp_flags, is_reply)
        if state is not None:
            return state
    connection.is_answered |= is_reply
    if frame.protocol != TCP and not connection.is_answered:
        return CtState.NEW
    return CtState.EST | (CtState.RPL if is_reply else 0)


def _write_tuple(fields: Fields, key: Key, is_ipv4: bool) -> None:
    source, destination = (Field.CT_NW_SRC, Field.CT_NW_DST) if is_ipv4 else (Field.CT_IPV6_SRC, Field.CT_IPV6_DST)
    if not key.protocol:  # which stands for "no tuple"
        return
    fields[source], fields[destination] = int(key.source or 0), int(key.destination or 0)
    fields[Field.CT_NW_PROTO] = key.protocol
    if isinstance(key.source_port, tuple):
        fields[Field.CT_TP_SRC], fields[Field.CT_TP_DST] = key.source_port[1], 0
    elif isinstance(key.source_port, int) and isinstance(key.destination_port, int):
        fields[Field.CT_TP_SRC], fields[Field.CT_TP_DST] = key.source_port, key.destination_port
