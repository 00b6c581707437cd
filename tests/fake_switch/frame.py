"""An Ethernet frame as far as a flow can see it.

Refuses to know bytes (see ``wire``), and of fields that no flow of ours names.
"""

from enum import IntEnum
from typing import Self

import msgspec

from portward.model import TCP, Address, Packet

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class Fragment(IntEnum):
    """The value is that of ``Field.IP_FRAG``."""

    NO, FIRST, LATER = 0, 1, 3


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame of Ethernet with at most one tag. Of a later fragment the ports say what the whole packet has."""

    eth_src: str
    eth_dst: str
    eth_type: int
    vlan: int | None = None  # 0: a tag that names no VLAN
    source: Address | None = None
    destination: Address | None = None
    protocol: int = 0  # of IPv6 the upper layer's
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    icmp_id: int = 0
    nd_target: Address | None = None
    about: "Frame | None" = None  # the packet that an ICMP error quotes
    identification: int = 0  # of IPv4, and of fragments: the same in all of one packet
    fragment: Fragment = Fragment.NO
    is_damaged: bool = False  # its checksum, or another thing that connection tracking alone looks at, is wrong
    arp_op: int = 0
    arp_sha: str = "00:00:00:00:00:00"
    arp_spa: Address | None = None
    arp_tpa: Address | None = None

    def with_(self, **changes: object) -> Self:
        """The frame but for ``changes``."""
        return msgspec.structs.replace(self, **changes)

    def reply(self) -> Self:
        """The answer to it, as ``Packet.reply``; of TCP with SYN and ACK."""
        swapped = self.with_(
            eth_src=self.eth_dst,
            eth_dst=self.eth_src,
            source=self.destination,
            destination=self.source,
            source_port=self.destination_port,
            destination_port=self.source_port,
            tcp_flags=SYN | ACK if self.protocol == TCP else 0,
        )
        inverse = {
            (1, 8): 0,
            (1, 0): 8,
            (1, 13): 14,
            (1, 14): 13,
            (1, 15): 16,
            (1, 16): 15,
            (58, 128): 129,
            (58, 129): 128,
        }
        return swapped.with_(icmp_type=inverse.get((self.protocol, self.icmp_type), self.icmp_type))


def frame_of(
    packet: Packet, *, source_mac: str | None = None, destination_mac: str | None = None, vlan: int | None = None
) -> Frame:
    """``packet`` of the model in a frame; a MAC that is not given is the packet's own.

    Raises:
        ValueError: a MAC is given nowhere.
    """
    eth_src, eth_dst = source_mac or packet.source_mac, destination_mac or packet.destination_mac
    if eth_src is None or eth_dst is None:
        raise ValueError("which MACs? give them, or a packet that has them")
    about = packet.about
    flags = 0 if packet.is_invalid else RST if packet.is_reset else SYN
    return Frame(
        eth_src=eth_src,
        eth_dst=eth_dst,
        eth_type=IPV4 if packet.ip_version == 4 else IPV6,
        vlan=vlan,
        source=packet.source,
        destination=packet.destination,
        protocol=packet.protocol,
        source_port=packet.source_port or 0,
        destination_port=packet.destination_port or 0,
        tcp_flags=flags if packet.protocol == TCP else 0,
        icmp_type=packet.icmp_type or 0,
        icmp_code=packet.icmp_code or 0,
        icmp_id=packet.icmp_id or 0,
        nd_target=packet.neighbour_target,
        about=None if about is None else frame_of(about, source_mac=eth_dst, destination_mac=eth_src),
        fragment=Fragment.LATER if packet.is_later_fragment else Fragment.NO,
        is_damaged=packet.is_invalid,
    )


def mac_number(mac: str) -> int:
    """``mac`` as a field of 48 bits."""
    return int(mac.replace(":", ""), 16)


def mac_text(number: int) -> str:
    """The reverse of ``mac_number``."""
    return number.to_bytes(6, "big").hex(":")
