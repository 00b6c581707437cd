"""The flows of a bridge's ports and networks: who is behind a port, and where frames of a network go. Pure.

A port that has no flow here sends nothing and gets nothing. Refuses to know rules, and how ports are found.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from ipaddress import IPv6Network, ip_network

import msgspec

from portward.dataplane.openvswitch.flows import (
    Action,
    Clone,
    Condition,
    Field,
    Flow,
    Load,
    Move,
    Output,
    PushVlan,
    Resubmit,
)
from portward.dataplane.openvswitch.layout import Bits, Table
from portward.dataplane.openvswitch.tables import ENTER_INGRESS, OWN_IPV4, OWN_IPV6, OWN_MAC, Asked, flow, set_bit
from portward.model import Address, AddressPair, Port, Prefix

_MULTICAST_BIT = 1 << 40
_WORD = 0xFFFFFFFF
_PRESENT = 0x1000  # of a VLAN tag, in Field.VLAN_VID
#: Copies that one flow makes: the actions of a flow are 64 KiB at most, and a packet may be looked up 4,096 times.
_COPIES = 200


class FilteredPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a virtual machine, as it is on the bridge."""

    port: Port
    ofport: int
    network: int  # VLAN of the bridge, 0: no tag
    zone: int
    profile: int  # by which lists it is decided

    @property
    def teaches(self) -> bool:
        """Whether it may send from addresses that nobody has told us of, which are learnt."""
        return not self.port.port_security_enabled

    @property
    def place(self) -> Hashable:
        """What differs when sources that were learnt at it count no more."""
        return self.network, self.teaches


class AdmittedPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port that is not filtered. ``network`` ``None``: it carries the frames of all, tagged."""

    ofport: int
    network: int | None
    networks: frozenset[int] = frozenset()  # those that it carries alone, if it does not carry all

    @property
    def place(self) -> Hashable:
        """What differs when sources that were learnt at it count no more."""
        return self.network, self.networks


def filtered_flows(port: FilteredPort) -> Iterator[Flow]:
    """What is known of a filtered port, and the sources that are its own."""
    bits = port.port.port_security_enabled << Bits.SECURED | port.teaches << Bits.TEACHES
    yield flow(
        Table.PORT,
        100,
        [(Field.REG14, port.ofport)],
        Load(Field.REG10, port.profile),
        Load(Field.REG11, port.zone),
        Load(Field.REG13, port.network),
        _port_bits(bits),
    )
    # A copy of its own broadcast: the switch would not send it back anyway, and no rule is to count it.
    yield flow(Table.INGRESS, 1100, [(Field.REG14, port.ofport), (Field.IN_PORT, port.ofport)])
    if port.port.port_security_enabled:
        for mac in macs_of(port.port):
            yield flow(Table.OWN, 100, _own(port, mac, OWN_MAC), set_bit(Bits.OWN))
        for mac, prefix in sorted(_sources(port.port), key=lambda item: (item[0], item[1].version, item[1])):
            conditions = [*_own(port, mac, OWN_IPV4 if prefix.version == 4 else OWN_IPV6), *_within(prefix)]
            # The longest first, so that no two of the same priority overlap.
            yield flow(Table.OWN, 100 + prefix.prefixlen, conditions, set_bit(Bits.OWN))


def admitted_flows(port: AdmittedPort) -> Iterator[Flow]:
    """What is known of a port that is not filtered, and how frames leave by it."""
    trunk = port.network is None
    bits = 1 << Bits.ADMITTED | 1 << Bits.TEACHES | trunk << Bits.TRUNK
    network = () if port.network is None else (Load(Field.REG13, port.network),)
    yield flow(Table.PORT, 100, [(Field.REG14, port.ofport)], *network, _port_bits(bits))
    to_it = (Field.REG0, port.ofport)
    if port.network is not None:
        yield flow(Table.FORWARD, 100, [to_it, (Field.REG13, port.network)], Output(port.ofport))
        yield flow(Table.FORWARD, 90, [to_it])  # its network is another one now
        return
    if not port.networks:
        yield flow(Table.FORWARD, 90, [to_it], *_tagged(), Output(port.ofport))
        yield flow(Table.ANSWER, 90, [to_it], *_tagged(), Output(port.ofport))
    else:
        yield flow(Table.FORWARD, 90, [to_it])
    for number in sorted(port.networks | {0}):
        tag = _tagged() if number else ()
        for table in (Table.FORWARD, Table.ANSWER):
            yield flow(table, 100, [to_it, (Field.REG13, number)], *tag, Output(port.ofport))


def delivery_flows(network: int, mac: int, ports: Sequence[int]) -> Iterator[Flow]:
    """How a frame comes to the filtered ``ports`` that ``mac`` belongs to in ``network``: one, but for shared MACs."""
    actions = _enter(ports[0]) if len(ports) == 1 else tuple(Clone(_enter(port)) for port in ports)
    yield flow(Table.DELIVER, 200, [(Field.REG13, network), (Field.ETH_DST, mac)], *actions)


def network_flows(network: int, filtered: Sequence[int], admitted: Iterable[AdmittedPort]) -> Iterator[Flow]:
    """Broadcasts, multicasts and frames to unknown MACs in ``network``.

    The first two come to each of the ``filtered`` ports through its decision; all three leave by the ``admitted``.
    """
    floods = tuple(action for port in admitted for action in _flood(port, network))
    yield flow(Table.FORWARD, 60, [(Field.REG0, 0), (Field.REG13, network)], *floods)
    chunks = [filtered[start : start + _COPIES] for start in range(0, len(filtered), _COPIES)]
    for number, chunk in enumerate(chunks):
        more = (Load(Field.REG0, number + 1), Resubmit(Table.COPIES)) if number + 1 < len(chunks) else ()
        made = tuple(Clone(_enter(port)) for port in chunk)
        yield flow(Table.COPIES, 100, [(Field.REG13, network), (Field.REG0, number)], *made, *more)
    yield flow(
        Table.DELIVER,
        150,
        [(Field.REG13, network), Condition(Field.ETH_DST, _MULTICAST_BIT, _MULTICAST_BIT)],
        Load(Field.REG0, 0),
        Resubmit(Table.FORWARD),
        # Last: connection tracking may let fragments of others go with this frame (see ``tables``).
        *((Resubmit(Table.COPIES),) if filtered else ()),
    )


def unknown_network_flows(admitted: Iterable[AdmittedPort]) -> Iterator[Flow]:
    """Frames of networks that nobody on this bridge is in leave by the ports that carry all."""
    floods = tuple(
        action for port in admitted if port.network is None and not port.networks for action in _flood(port, 1)
    )
    yield flow(Table.FORWARD, 55, [(Field.REG0, 0)], *floods)


def macs_of(port: Port) -> list[int]:
    """The MACs that a port may send from, and gets frames for."""
    macs = {port.mac_address, *(pair.mac for pair in port.allowed_address_pairs)} - {None}
    return sorted(_number(mac) for mac in macs if mac is not None)


def _sources(port: Port) -> set[tuple[int, Prefix]]:
    """(MAC, addresses) that it may send from: its fixed IPs, its pairs, and what interfaces make of their MACs."""
    assert port.mac_address is not None
    own = _number(port.mac_address)
    found: set[tuple[int, Prefix]] = {(own, ip_network(address)) for address in port.fixed_ips}
    found.add((own, _link_local(own)))
    for pair in port.allowed_address_pairs:
        mac = _pair_mac(pair, own)
        found |= {(mac, pair.prefix), (mac, _link_local(mac))}
    return found


def _pair_mac(pair: AddressPair, own: int) -> int:
    return own if pair.mac is None else _number(pair.mac)


def _link_local(mac: int) -> IPv6Network:
    """The IPv6 link-local address that an interface forms from ``mac`` (RFC 4291, appendix A)."""
    high, low = mac >> 24 ^ 2 << 16, mac & 0xFFFFFF
    return IPv6Network((0xFE80 << 112 | high << 40 | 0xFFFE << 24 | low, 128))


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def _own(port: FilteredPort, mac: int, kind: int) -> list[Asked]:
    return [
        (Field.REG14, port.ofport),
        (Field.REG1, mac >> 16),
        (Field.REG2, mac & 0xFFFF),
        (Field.REG3, kind),
    ]


def _within(prefix: Prefix) -> list[Condition]:
    """That the address in reg0 (IPv4) or in reg4 to reg7 is one of ``prefix``."""
    registers = (Field.REG0,) if prefix.version == 4 else (Field.REG4, Field.REG5, Field.REG6, Field.REG7)
    found = []
    for field, value, mask in zip(registers, _words(prefix.network_address), _words(prefix.netmask), strict=True):
        if mask:
            found.append(Condition(field, value, None if mask == _WORD else mask))
    return found


def _words(address: Address) -> list[int]:
    return [int.from_bytes(address.packed[at : at + 4], "big") for at in range(0, len(address.packed), 4)]


def _port_bits(bits: int) -> Load:
    return Load(Field.REG15, bits >> Bits.SECURED, Bits.SECURED, Bits.TEACHES - Bits.SECURED + 1)


def _enter(ofport: int) -> tuple[Action, ...]:
    return (Load(Field.REG14, ofport), *ENTER_INGRESS)


def _flood(port: AdmittedPort, network: int) -> tuple[Action, ...]:
    if port.network is not None:
        return (Output(port.ofport),) if port.network == network else ()
    if port.networks and network not in port.networks and network:
        return ()
    return (Clone((*_tagged(), Output(port.ofport))),) if network else (Output(port.ofport),)


def _tagged() -> tuple[Action, ...]:
    return (PushVlan(), Load(Field.VLAN_VID, _PRESENT), Move(Field.REG13, Field.VLAN_VID, 12))
