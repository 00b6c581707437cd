"""Pairs of virtual Ethernet devices over rtnetlink(7): make one, look at an end, remove it.

Refuses to know what a pair is for. Functions that name no socket act in the namespace of their thread.
"""

import array
import errno
import fcntl
import socket
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from portward.dataplane.nftables.netlink import ACK, Netlink, NetlinkError, attribute, attributes

ROUTE = 0  # NETLINK_ROUTE
# linux/rtnetlink.h, linux/if_link.h, linux/veth.h
_NEW, _DELETE, _GET = 16, 17, 18
_CREATE, _EXCLUSIVE = 0x400, 0x200
_NAME, _MTU, _LINK, _INFO, _NETNS_FD = 3, 4, 5, 18, 28
_KIND, _DATA, _PEER = 1, 2, 1
_UP = 1
_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg
_SIOCETHTOOL, _SET_TX_CHECKSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h


class Device(NamedTuple):
    """A device as the kernel has it; ``peer`` is the number of the other end, in whatever namespace that is."""

    number: int
    name: str
    up: bool
    peer: int


def device(links: Netlink, which: str | int) -> Device | None:
    """The device of that name or number in the namespace of ``links``; ``None``: there is none.

    Raises:
        NetlinkError: the kernel refused to tell.
    """
    if isinstance(which, str):
        wanted = _HEADER.pack(0, 0, 0, 0, 0) + _text(_NAME, which)
    else:
        wanted = _HEADER.pack(0, 0, which, 0, 0)
    try:
        (answer,) = links.request(_GET, wanted)
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    _, _, number, flags, _ = _HEADER.unpack_from(answer)
    known = attributes(answer[_HEADER.size :])
    name = known[_NAME].rstrip(b"\0").decode("utf-8", "replace")
    return Device(number, name, bool(flags & _UP), int.from_bytes(known.get(_LINK, b"")[:4], sys.byteorder))


def add(links: Netlink, name: str, peer: str, namespace: int, *, mtu: int) -> None:
    """Make ``name``, down, in the namespace of ``links``, and its other end ``peer`` in the one that is held open.

    Both take packets of up to ``mtu`` bytes.

    Raises:
        NetlinkError: the kernel refused.
    """
    size = attribute(_MTU, struct.pack("=I", mtu))
    place = attribute(_NETNS_FD, struct.pack("=I", namespace))
    other = _HEADER.pack(0, 0, 0, 0, 0) + _text(_NAME, peer) + size + place
    data = attribute(_DATA, attribute(_PEER, other), nested=True)
    body = _text(_NAME, name) + size + attribute(_INFO, _text(_KIND, "veth") + data, nested=True)
    links.request(_NEW, _HEADER.pack(0, 0, 0, 0, 0) + body, ACK | _CREATE | _EXCLUSIVE)


def set_up(links: Netlink, number: int) -> None:
    """Set the device up.

    Raises:
        NetlinkError: the kernel refused.
    """
    links.request(_NEW, _HEADER.pack(0, 0, number, _UP, _UP), ACK)


def delete(links: Netlink, number: int) -> None:
    """Remove the device, and its other end.

    Raises:
        NetlinkError: the kernel refused.
    """
    links.request(_DELETE, _HEADER.pack(0, 0, number, 0, 0), ACK)


def without_ipv6(name: str) -> None:
    """Have the device take no part in IPv6: it would announce itself as soon as it is up.

    Raises:
        OSError: the kernel refused.
    """
    switch = Path("/proc/sys/net/ipv6/conf") / name / "disable_ipv6"
    if switch.exists():  # else this kernel has no IPv6
        switch.write_text("1")


def with_whole_checksums(name: str) -> None:
    """Have the kernel finish the checksums of what leaves by the device: a switch in userspace gets the bytes as is.

    Raises:
        OSError: the kernel refused.
    """
    value = array.array("I", [_SET_TX_CHECKSUM, 0])
    request = struct.pack("16sP16x", name.encode("ascii"), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
        fcntl.ioctl(handle, _SIOCETHTOOL, request)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode("ascii") + b"\0")
