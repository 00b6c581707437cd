"""The fields of a frame as numbers, and what a flow must match before it may name one (ovs-fields(7))."""

from collections.abc import Iterable

from fake_switch.frame import ARP, IPV4, IPV6, Fragment, Frame, mac_number
from portward.dataplane.openvswitch.flows import Condition, CtState, Field
from portward.model import ICMP, ICMPV6, UDP

#: A packet on its way through the tables: every field by its value; what a packet does not have is 0.
Fields = dict[Field, int]

_TAG = 0x1000
_BY_HEADER = {int(field): field for field in Field}
_XXREGS = {
    Field.XXREG0: (0x00010004, 0x00010204, 0x00010404, 0x00010604),
    Field.XXREG1: (0x00010804, 0x00010A04, 0x00010C04, 0x00010E04),
}
_REGS = {header: (xxreg, 96 - 32 * place) for xxreg, regs in _XXREGS.items() for place, header in enumerate(regs)}
_SAME = {
    Field.VLAN_TCI: Field.VLAN_VID,
    Field.VLAN_VID: Field.VLAN_TCI,
    Field.IN_PORT: Field.NXM_IN_PORT,
    Field.NXM_IN_PORT: Field.IN_PORT,
}
_TRACKED = (
    Field.CT_STATE,
    Field.CT_MARK,
    Field.CT_NW_PROTO,
    Field.CT_NW_SRC,
    Field.CT_NW_DST,
    Field.CT_IPV6_SRC,
    Field.CT_IPV6_DST,
    Field.CT_TP_SRC,
    Field.CT_TP_DST,
)
_PORTS = {UDP: (Field.UDP_SRC, Field.UDP_DST)}
_ND_TYPES = (135, 136)


def fields_of(frame: Frame, in_port: int) -> Fields:
    """What the tables see of ``frame`` at first."""
    fields = dict.fromkeys(Field, 0)
    write(fields, Field.IN_PORT, in_port)
    fields[Field.ETH_SRC], fields[Field.ETH_DST] = mac_number(frame.eth_src), mac_number(frame.eth_dst)
    fields[Field.ETH_TYPE] = frame.eth_type
    if frame.vlan is not None:
        write(fields, Field.VLAN_VID, _TAG | frame.vlan)
    if frame.eth_type == ARP:
        fields[Field.ARP_SHA] = mac_number(frame.arp_sha)
        fields[Field.ARP_SPA] = int(frame.arp_spa or 0)
    if frame.eth_type in (IPV4, IPV6):
        _ip(fields, frame)
    return fields


def _ip(fields: Fields, frame: Frame) -> None:
    source, destination = (
        (Field.IPV4_SRC, Field.IPV4_DST) if frame.eth_type == IPV4 else (Field.IPV6_SRC, Field.IPV6_DST)
    )
    fields[source], fields[destination] = int(frame.source or 0), int(frame.destination or 0)
    fields[Field.IP_PROTO] = frame.protocol
    fields[Field.IP_FRAG] = frame.fragment
    if frame.fragment is not Fragment.NO:
        return  # as the switch handles fragments, unless told otherwise: none has ports (ovs-fields(7), "ip_frag")
    if frame.protocol in _PORTS:
        source, destination = _PORTS[frame.protocol]
        fields[source], fields[destination] = frame.source_port, frame.destination_port
    elif frame.protocol == ICMPV6 and frame.eth_type == IPV6:
        fields[Field.ICMPV6_TYPE], fields[Field.ICMPV6_CODE] = frame.icmp_type, frame.icmp_code
        if frame.icmp_type in _ND_TYPES and frame.icmp_code == 0:
            fields[Field.ND_TARGET] = int(frame.nd_target or 0)


def write(fields: Fields, field: Field, value: int) -> None:
    """Give ``field`` a value, and every other name of the same bits."""
    fields[field] = value
    if field in _SAME:
        fields[_SAME[field]] = value
    elif field in _REGS:
        xxreg, first = _REGS[field]
        fields[xxreg] = fields[xxreg] & ~(0xFFFFFFFF << first) | value << first
    elif field in _XXREGS:
        for place, header in enumerate(_XXREGS[field]):
            if header in _BY_HEADER:
                fields[_BY_HEADER[header]] = value >> 96 - 32 * place & 0xFFFFFFFF


def write_bits(fields: Fields, field: Field, value: int, first: int, bits: int) -> None:
    """Give ``bits`` of ``field`` from ``first`` on a value, leaving the others."""
    mask = (1 << bits) - 1
    write(fields, field, fields[field] & ~(mask << first) | (value & mask) << first)


def forget_tracking(fields: Fields) -> None:
    """As if the packet had never been tracked."""
    for field in _TRACKED:
        fields[field] = 0


def refusal(conditions: Iterable[Condition]) -> str | None:
    """Why the switch would refuse a flow that matches ``conditions``; ``None``: it takes it."""
    match = {}
    for field, value, mask in conditions:
        every = _every_bit(field)
        if field in match:
            return f"{field.name} twice"
        if value & ~(every if mask is None else mask & every):
            return f"{field.name}: bits of the value {value:#x} lie outside of its mask"
        if mask is not None and field in _WHOLE:
            return f"{field.name} takes no mask"
        match[field] = value, every if mask is None else mask
    for field in match:
        needed = lacks(field, match)
        if needed is not None:
            return f"{field.name} without {needed}"
    return None


_WHOLE = {Field.IN_PORT, Field.ETH_TYPE, Field.IP_PROTO, Field.ICMPV6_TYPE, Field.CT_NW_PROTO, Field.CONJ_ID}
#: What a flow matches: value and mask of each field.
Masked = dict[Field, tuple[int, int]]


def _every_bit(field: Field) -> int:
    if field is Field.VLAN_VID:
        return 0x1FFF
    return 3 if field is Field.IP_FRAG else (1 << field.bits) - 1


def lacks(field: Field, match: Masked) -> str | None:
    """What ``match`` lacks that ``field`` needs."""
    kind = match.get(Field.ETH_TYPE, (0, 0))[0]
    protocol = match.get(Field.IP_PROTO, (None, 0))[0]
    state, seen = match.get(Field.CT_STATE, (0, 0))
    valid = state & (CtState.NEW | CtState.EST | CtState.REL | CtState.RPL) or (
        state & CtState.TRK and seen & CtState.INV and not state & CtState.INV
    )
    if field.name.startswith("CT_") and field not in (Field.CT_STATE, Field.CT_MARK) and not valid:
        return "a valid CT_STATE"
    if field in (Field.IPV4_SRC, Field.IPV4_DST, Field.CT_NW_SRC, Field.CT_NW_DST) and kind != IPV4:
        return "ETH_TYPE of IPv4"
    if field in (Field.IPV6_SRC, Field.IPV6_DST, Field.CT_IPV6_SRC, Field.CT_IPV6_DST) and kind != IPV6:
        return "ETH_TYPE of IPv6"
    if field in (Field.IP_PROTO, Field.IP_FRAG) and kind not in (IPV4, IPV6):
        return "ETH_TYPE of IP"
    if field in (Field.ARP_SHA, Field.ARP_SPA) and kind != ARP:
        return "ETH_TYPE of ARP"
    for upper, names in ((UDP, ("UDP_SRC", "UDP_DST")),):
        if field.name in names and (kind not in (IPV4, IPV6) or protocol != upper):
            return f"IP_PROTO {upper}"
    if field in (Field.ICMPV6_TYPE, Field.ICMPV6_CODE, Field.ND_TARGET) and (kind != IPV6 or protocol != ICMPV6):
        return "IP_PROTO of ICMPv6"
    query = match.get(Field.ICMPV6_TYPE, (0, 0))[0]
    if field is Field.ND_TARGET and (query not in _ND_TYPES or match.get(Field.ICMPV6_CODE, (0, 0))[0]):
        return "ICMPV6_TYPE 135 or 136"
    return None


def masked(conditions: Iterable[Condition]) -> Masked:
    """``conditions`` by field; no mask is one of all bits."""
    return {field: (value, _every_bit(field) if mask is None else mask) for field, value, mask in conditions}


def is_ip(match: Masked) -> bool:
    """Whether a flow with ``match`` sees IP packets alone, as ct() needs."""
    return match.get(Field.ETH_TYPE, (0, 0))[0] in (IPV4, IPV6)


def is_tagged(match: Masked) -> bool:
    """Whether a flow with ``match`` sees tagged frames alone, as taking a tag off needs."""
    return any(match.get(field, (0, 0))[0] & _TAG for field in (Field.VLAN_VID, Field.VLAN_TCI))


def is_icmp(frame: Frame) -> bool:
    """Whether it is ICMP of its own IP version."""
    return (frame.eth_type, frame.protocol) in ((IPV4, ICMP), (IPV6, ICMPV6))
