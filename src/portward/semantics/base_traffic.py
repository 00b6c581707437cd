"""What VM ports pass or drop before any group is asked: base traffic and anti-spoofing (semantics 8).

Refuses to know of rules and groups, and of router ports, which have neither.
"""

from ipaddress import IPv6Address

from portward.model import ICMPV6, UDP, Address, Arp, Direction, Packet, Port
from portward.semantics.decision import Decision, Reason, Verdict

_ADVERTISEMENT = 136
#: ICMPv6 types (RFC 4861 neighbour discovery, RFC 2710 and 3810 multicast listener discovery).
_FROM_VM = frozenset({131, 132, 133, 135, _ADVERTISEMENT, 143})
_TO_VM = frozenset({130, 131, 132, 134, 135, 136})
_FROM_ROUTERS_ONLY = frozenset({134, 137})  # router advertisement, redirect
#: IP version -> UDP ports (source, destination) of RFC 2131 and RFC 8415.
_DHCP_CLIENT = {4: (68, 67), 6: (546, 547)}
_DHCP_ANSWER = {4: (67, 68), 6: (547, 546)}

_PASSES = Decision(verdict=Verdict.ALLOW, reason=Reason.BASE_TRAFFIC)
_SPOOFED = Decision(verdict=Verdict.DENY, reason=Reason.SPOOFED)
_SERVER = Decision(verdict=Verdict.DENY, reason=Reason.SERVER_TRAFFIC)


def decide_base_traffic(packet: Packet, direction: Direction, port: Port) -> Decision | None:
    """The decision of VM port ``port`` before its groups; ``None``: they decide.

    A packet without ``source_mac`` has only its addresses checked.
    """
    if direction is Direction.INGRESS:
        return _PASSES if _icmpv6_type(packet) in _TO_VM or _is_dhcp(packet, _DHCP_ANSWER) else None
    is_base = _icmpv6_type(packet) in _FROM_VM or _is_dhcp(packet, _DHCP_CLIENT)
    if port.port_security_enabled:
        if _icmpv6_type(packet) in _FROM_ROUTERS_ONLY or _is_dhcp(packet, _DHCP_ANSWER):
            return _SERVER
        # Base traffic is sent before the VM has an address, too: duplicate address detection, DHCP discovery.
        may_be_unspecified = is_base and packet.source.is_unspecified
        if not _owns(port, packet.source_mac, None if may_be_unspecified else packet.source):
            return _SPOOFED
        if _icmpv6_type(packet) == _ADVERTISEMENT and (
            packet.neighbour_target is None or not _owns(port, packet.source_mac, packet.neighbour_target)
        ):
            return _SPOOFED
    return _PASSES if is_base else None


def decide_arp(arp: Arp, direction: Direction, port: Port) -> Decision:
    """The decision of VM port ``port`` for an ARP frame; groups have no say in it."""
    if direction is Direction.EGRESS and port.port_security_enabled:
        for mac in (arp.source_mac, arp.sender_mac):
            if not _owns(port, mac, arp.sender_address):
                return _SPOOFED
    return _PASSES


def _icmpv6_type(packet: Packet) -> int | None:
    return packet.icmp_type if packet.protocol == ICMPV6 and packet.ip_version == 6 else None


def _is_dhcp(packet: Packet, ports: dict[int, tuple[int, int]]) -> bool:
    return packet.protocol == UDP and (packet.source_port, packet.destination_port) == ports[packet.ip_version]


def _owns(port: Port, mac: str | None, address: Address | None) -> bool:
    """Whether ``port`` may send from ``mac`` with ``address``; ``None`` is whatever it may send from."""
    if (mac is None or mac == port.mac_address) and (
        address is None or address in port.fixed_ips or address == _link_local(port.mac_address)
    ):
        return True
    for pair in port.allowed_address_pairs:
        pair_mac = pair.mac or port.mac_address
        if (mac is None or mac == pair_mac) and (
            address is None or address in pair.prefix or address == _link_local(pair_mac)
        ):
            return True
    return False


def _link_local(mac: str | None) -> IPv6Address | None:
    """The IPv6 link-local address that an interface forms from ``mac`` (RFC 4291, appendix A)."""
    if mac is None:
        return None
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + interface)
