"""Flows as values: what the pipeline is written in, what goes to the switch, and what the packet-level fake reads.

A field is known by its OXM header (OpenFlow 1.4, 7.2.3.2, and the Nicira extensions of ovs-fields(7)), an action by a
value of its own. Refuses to know how these look on the wire, and which flows a bridge needs.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple


class Field(IntEnum):
    """A field of a packet or of its metadata; the value is its OXM or NXM header, without the bit for a mask."""

    VLAN_TCI = 0x00000802
    REG0 = 0x00010004
    REG1 = 0x00010204
    REG2 = 0x00010404
    REG3 = 0x00010604
    REG4 = 0x00010804
    REG5 = 0x00010A04
    REG6 = 0x00010C04
    REG7 = 0x00010E04
    REG8 = 0x00011004
    REG9 = 0x00011204
    REG10 = 0x00011404
    REG11 = 0x00011604
    REG12 = 0x00011804
    REG13 = 0x00011A04
    REG14 = 0x00011C04
    REG15 = 0x00011E04
    IP_FRAG = 0x00013401  # bit 0: a fragment; bit 1: not the first
    CONJ_ID = 0x00014A04
    CT_STATE = 0x0001D204
    CT_MARK = 0x0001D604
    XXREG0 = 0x0001DE10  # reg0 to reg3, reg0 the highest bits
    XXREG1 = 0x0001E010  # reg4 to reg7
    CT_NW_PROTO = 0x0001EE01
    CT_NW_SRC = 0x0001F004
    CT_NW_DST = 0x0001F204
    CT_IPV6_SRC = 0x0001F410
    CT_IPV6_DST = 0x0001F610
    CT_TP_SRC = 0x0001F802
    CT_TP_DST = 0x0001FA02
    NXM_IN_PORT = 0x00000002  # 16 bits, for moves
    IN_PORT = 0x80000004
    ETH_DST = 0x80000606
    ETH_SRC = 0x80000806
    ETH_TYPE = 0x80000A02
    VLAN_VID = 0x80000C02  # bit 12: there is a tag
    IP_PROTO = 0x80001401
    IPV4_SRC = 0x80001604
    IPV4_DST = 0x80001804
    UDP_SRC = 0x80001E02
    UDP_DST = 0x80002002
    ARP_SPA = 0x80002C04
    ARP_SHA = 0x80003006
    IPV6_SRC = 0x80003410
    IPV6_DST = 0x80003610
    ICMPV6_TYPE = 0x80003A01
    ICMPV6_CODE = 0x80003C01
    ND_TARGET = 0x80003E10

    @property
    def bits(self) -> int:
        """How wide it is."""
        return (self & 0xFF) * 8


class CtState:
    """Bits of ``Field.CT_STATE`` (ovs-fields(7))."""

    NEW, EST, REL, RPL, INV, TRK = 1, 2, 4, 8, 16, 32


class Condition(NamedTuple):
    """``field`` has ``value`` in the bits of ``mask``; no mask: in all."""

    field: Field
    value: int
    mask: int | None = None


#: What a packet must be, every condition of it; sorted by field, each field once.
Match = tuple[Condition, ...]


def matching(conditions: Iterable[Condition]) -> Match:
    """``conditions`` in the one order that makes equal matches equal values."""
    return tuple(sorted(conditions))


class Output(NamedTuple):
    """Send a copy out of ``port`` (an OpenFlow port number); never out of the port that it came in by."""

    port: int


class OutputField(NamedTuple):
    """Send a copy out of the port that ``field`` names."""

    field: Field


class Resubmit(NamedTuple):
    """Look the packet up in ``table``, then go on with the next action."""

    table: int


class Load(NamedTuple):
    """Write ``value`` to the ``bits`` of ``field`` from bit ``first`` on, counted from the lowest; 0: to all of it."""

    field: Field
    value: int
    first: int = 0
    bits: int = 0


class Move(NamedTuple):
    """Copy ``bits`` of ``source``, from bit ``source_first`` on, to ``destination`` from ``destination_first`` on."""

    source: Field
    destination: Field
    bits: int
    source_first: int = 0
    destination_first: int = 0


class Track(NamedTuple):
    """Have the connection tracked in the zone that the low 16 bits of ``zone`` name, and go on in ``table``."""

    table: int
    zone: Field


class Commit(NamedTuple):
    """Commit the connection in the zone that the low 16 bits of ``zone`` name, with ``mark``."""

    zone: Field
    mark: int


class CtClear(NamedTuple):
    """Forget what connection tracking said of the packet."""


class Clone(NamedTuple):
    """Do ``actions`` to a copy; what they change ends with them."""

    actions: "tuple[Action, ...]"


class PopVlan(NamedTuple):
    """Take the outermost tag off."""


class PushVlan(NamedTuple):
    """Put a tag (802.1Q) on; its VLAN is 0 until it is loaded."""


class Conjunction(NamedTuple):
    """This flow is of dimension ``clause`` (0 to ``clauses`` - 1) of the conjunction ``id``."""

    id: int
    clause: int
    clauses: int


class Learn(NamedTuple):
    """Have a flow in ``table`` say, for ``timeout`` seconds, by which port frames to this one's source leave.

    The flow matches ``ETH_DST`` with this frame's ``ETH_SRC`` and ``REG13`` with this one's, and loads this one's
    ``REG14`` to ``REG0``. At most ``limit`` flows are learnt; above it nothing is.
    """

    table: int
    priority: int
    timeout: int
    limit: int
    cookie: int


Action = (
    Output
    | OutputField
    | Resubmit
    | Load
    | Move
    | Track
    | Commit
    | CtClear
    | Clone
    | PopVlan
    | PushVlan
    | Conjunction
    | Learn
)


class FlowKey(NamedTuple):
    """What tells a flow from all others of a bridge."""

    table: int
    priority: int  # 0 to 65535, the highest decides
    match: Match


class Flow(NamedTuple):
    """What is done to packets that match. No actions: they are dropped."""

    key: FlowKey
    actions: tuple[Action, ...]


class FlowStats(NamedTuple):
    """A flow as the switch lists it, with what it has counted. ``actions`` are encoded."""

    key: FlowKey
    cookie: int
    actions: bytes
    packets: int
    bytes: int
