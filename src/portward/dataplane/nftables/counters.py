"""What the rules of a namespace have counted, read from the kernel by raw netlink.

Every rule and map element that decides bears a counter and, as its comment, the id of the rule that it is there for.
The places of one rule in a version of a list add up. Dumps are searched for these two alone: as text, or taken apart
attribute by attribute, 10,000 elements would take a tenth of a second each time. What it refuses: to write.
"""

import re
import socket
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from portward.dataplane.nftables.netlink import DUMP, Netlink, attribute, attributes
from portward.dataplane.nftables.ruleset import TABLE
from portward.dataplane.protocol import Count, Reading

# linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h, asm-generic/socket.h
_GET_TABLE, _GET_RULE, _GET_ELEMENTS = 10 << 8 | 1, 10 << 8 | 7, 10 << 8 | 13
_FAMILY_INET = struct.pack("!BBH", 1, 0, 0)
_NFTA_TABLE_HANDLE, _NFTA_RULE_USERDATA, _NFTA_SET_ELEM_USERDATA = 4, 7, 6
_SO_NETNS_COOKIE = 71

_VERSION = re.compile(r"v\d+/rules/[0-9a-f]+")  # ruleset.version_name
_OF_TABLE = attribute(1, TABLE.split()[1].encode() + b"\0")


def _header(kind: int, size: int) -> bytes:
    return re.escape(attribute(kind, bytes(size))[:4])


# Bytes before packets; then what a rule does; then a comment (type 0, length 37) that is a UUID. What a user chooses
# of a key or a comparison is 32 bytes in a row at most, too few to look like either.
_COUNTER = (
    re.escape(attribute(1, b"counter\0")) + _header(2, 24) + _header(1, 8) + b"(.{8})" + _header(2, 8) + b"(.{8})"
)
_COMMENT = b"\0\x25([0-9a-f-]{36})\0"
_REQUESTS = {
    "chain": (_GET_RULE, re.compile(_COUNTER + b".*?" + _header(_NFTA_RULE_USERDATA, 39) + _COMMENT, re.DOTALL)),
    "map": (_GET_ELEMENTS, re.compile(_COUNTER + _header(_NFTA_SET_ELEM_USERDATA, 39) + _COMMENT, re.DOTALL)),
}


def read(netlink: Netlink, objects: Iterable[tuple[str, str]]) -> tuple[Reading, ...]:
    """What the versions of lists to which ``objects``, (kind, name) of our table, belong have counted so far.

    Other objects are passed over. Costs one request an object.

    Raises:
        NetlinkError: one of them is not there, or the kernel has no memory for the answer.
        OSError: the kernel is older than 5.14.
    """
    counted: dict[str, dict[bytes, Count]] = {}
    for kind, title in objects:
        match = _VERSION.match(title)
        if match and kind in _REQUESTS:
            counts = counted.setdefault(match[0], {})
            request, pattern = _REQUESTS[kind]
            for part in netlink.request(request, _FAMILY_INET + _OF_TABLE + attribute(2, title.encode() + b"\0"), DUMP):
                for size, packets, rule_id in pattern.findall(part):
                    count = Count(_number(packets), _number(size))
                    counts[rule_id] = counts[rule_id] + count if rule_id in counts else count
    if not counted:
        return ()
    table = _table(netlink)
    return tuple(
        Reading(f"{table}/{version}", {rule_id.decode(): count for rule_id, count in counts.items()})
        for version, counts in counted.items()
    )


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _table(netlink: Netlink) -> str:
    """A name that no other table has, here or elsewhere on this machine, before or after."""
    (table,) = netlink.request(_GET_TABLE, _FAMILY_INET + _OF_TABLE)
    handle = _number(attributes(table[4:])[_NFTA_TABLE_HANDLE])
    return f"{_boot()}/{netlink.option(socket.SOL_SOCKET, _SO_NETNS_COOKIE)}/{handle}"


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
