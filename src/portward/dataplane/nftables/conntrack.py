"""Clearing our bits of connection marks, over ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

Entries are un-marked, never deleted: a deleted one would take with it the replies of an accepted connection
whose client is silent. Entries of every zone are treated; bits outside the mask are never changed.
"""

import errno
import struct

from portward.dataplane.nftables.epochs import MarkFilter
from portward.dataplane.nftables.netlink import ACK, DUMP, NETFILTER, Netlink, NetlinkError, attribute, attributes
from portward.dataplane.protocol import DataplaneError

_NEW, _GET, _GET_STATISTICS = 1 << 8, 1 << 8 | 1, 1 << 8 | 5
_ENTRIES = 1
_TUPLE_ORIGINAL, _MARK, _ZONE, _MARK_MASK = 1, 8, 18, 21
_PASSES = 8
#: Admits every mark.
ALL = MarkFilter(0, 0)


def clear_marks(mask: int, which: MarkFilter = ALL, spare: frozenset[int] = frozenset()) -> int:
    """Set to 0 the bits of ``mask`` in every mark that ``which`` admits; says how many entries that were.

    Marks whose bits of ``mask`` are one of ``spare`` stay as they are.

    It looks again until none is left, as a table that is resized meanwhile hides entries from a reader. Runs in
    the calling thread's namespace.

    Raises:
        NetlinkError: the kernel refused.
        DataplaneError: marks come back as fast as they are cleared: somebody else writes these bits.
    """
    cleared = 0
    with Netlink(NETFILTER) as netlink:
        if not _entries(netlink):
            return 0
        for _ in range(_PASSES):
            found = _marked(netlink, mask, which, spare)
            if not found:
                return cleared
            for entry in found:
                _clear(netlink, entry, mask)
            cleared += len(found)
    raise DataplaneError(
        f"connection marks in bits {mask:#x} come back when cleared: another program writes them; "
        "choose other bits in [nftables] ct_mark_mask"
    )


def _entries(netlink: Netlink) -> int:
    """How many there are in this namespace. To look for them goes through those of all namespaces, for 5 ms."""
    answer = netlink.request(_GET_STATISTICS, struct.pack("!BBH", 0, 0, 0))[0]
    return int.from_bytes(attributes(answer[4:])[_ENTRIES], "big")


def _marked(netlink: Netlink, mask: int, which: MarkFilter, spare: frozenset[int]) -> list[bytes]:
    """What identifies each entry whose mark has bits of ``mask`` set, is admitted by ``which``, and not spared."""
    body = struct.pack("!BBH", 0, 0, 0)
    body += attribute(_MARK, struct.pack("!I", which.value)) + attribute(_MARK_MASK, struct.pack("!I", which.mask))
    found = []
    for answer in netlink.request(_GET, body, DUMP):
        fields = attributes(answer[4:])
        mark = int.from_bytes(fields.get(_MARK, b""), "big")
        if mark & mask and mark & which.mask == which.value and mark & mask not in spare:
            identity = answer[:4] + attribute(_TUPLE_ORIGINAL, fields[_TUPLE_ORIGINAL], nested=True)
            if _ZONE in fields:
                identity += attribute(_ZONE, fields[_ZONE])
            found.append(identity)
    return found


def _clear(netlink: Netlink, identity: bytes, mask: int) -> None:
    body = identity + attribute(_MARK, struct.pack("!I", 0)) + attribute(_MARK_MASK, struct.pack("!I", mask))
    try:
        netlink.request(_NEW, body, ACK)
    except NetlinkError as error:
        if error.errno != errno.ENOENT:  # it ended meanwhile
            raise
