"""Rules of others that write our bits of connection marks: with one of these, a mark says nothing about a verdict.

Seen are nft's own ``ct mark set`` and the target CONNMARK of iptables-nft, each by the bits that it may change. Not
seen are iptables-legacy, tc, and programs that write marks by themselves. What it refuses: to change any of it.
"""

import os
import re
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from portward.dataplane.netns import DIRECTORY, NoSuchNamespace, in_namespace
from portward.dataplane.nftables.netlink import DUMP, NETFILTER, Netlink, attribute, attributes, elements
from portward.dataplane.nftables.ruleset import TABLE
from portward.model import InvalidValue

# linux/netfilter/nf_tables.h
_GET_TABLE, _GET_RULE = 10 << 8 | 1, 10 << 8 | 7
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_NFTA_NAME, _NFTA_DATA = 1, 2  # of an expression; the name of a table too
_NFTA_RULE_TABLE, _NFTA_RULE_CHAIN, _NFTA_RULE_HANDLE, _NFTA_RULE_EXPRESSIONS = 1, 2, 3, 4
_NFTA_CT_DREG, _NFTA_CT_KEY, _NFTA_CT_SREG, _CT_MARK = 1, 2, 4, 3
_NFTA_BITWISE_SREG, _NFTA_BITWISE_DREG, _NFTA_BITWISE_MASK, _NFTA_BITWISE_XOR = 1, 2, 4, 5
_NFTA_TARGET_NAME, _NFTA_TARGET_REV, _NFTA_TARGET_INFO = 1, 2, 3
# linux/netfilter/xt_connmark.h
_CONNMARK = struct.Struct("=IIIBBB")  # ctmark, ctmask, nfmask, then mode; of revision 2: direction, shift, mode
_SET, _SAVE, _LEFT = 0, 1, 0
_TARGET = b"CONNMARK\0"
#: The bytes of every expression that writes a mark: from which register, and that it is the mark.
_SET_MARK = re.compile(
    re.escape(attribute(_NFTA_CT_SREG, bytes(4))[:4])
    + b"...."
    + re.escape(attribute(_NFTA_CT_KEY, struct.pack("!I", _CT_MARK))),
    re.DOTALL,
)
_ALL = 0xFFFFFFFF
#: What helps against them.
ELSEWHERE = "remove that rule, or choose other bits in [nftables] ct_mark_mask"


class MarkWriter(NamedTuple):
    """A rule of somebody else, and the bits of connection marks that it may change."""

    table: str  # family and name
    chain: str
    handle: int  # as ``nft -a`` shows it
    bits: int

    def __str__(self) -> str:
        return (
            f"table {self.table}, chain {self.chain}, rule with handle {self.handle} "
            f"writes bits {self.bits:#x} of connection marks"
        )


def mark_writers(netlink: Netlink, mask: int) -> list[MarkWriter]:
    """The rules that may change bits of ``mask``, in the namespace to which ``netlink`` speaks, our table's aside.

    Raises:
        NetlinkError: the kernel does not list them.
    """
    return [
        writer
        for family, table in _tables(netlink)
        if _title(family, table) != TABLE
        for writer in _writers(netlink, family, table)
        if writer.bits & mask
    ]


def mark_writers_beside_us(mask: int, *, own_namespace: bool) -> dict[str, list[MarkWriter]]:
    """As ``mark_writers``, of every named namespace that holds our table, by its name; of this one as well, if asked.

    Raises:
        DataplaneError: a namespace cannot be looked into.
    """

    def look() -> list[MarkWriter]:
        with Netlink(NETFILTER) as netlink:
            ours = any(_title(*table) == TABLE for table in _tables(netlink))
            return mark_writers(netlink, mask) if ours else []

    found = {"the agent's own": look()} if own_namespace else {}
    for name in sorted(os.listdir(DIRECTORY)) if DIRECTORY.exists() else ():
        try:
            found[name] = in_namespace(name, look)
        except (NoSuchNamespace, InvalidValue):  # no agent enforces anything there
            continue
    return {name: writers for name, writers in found.items() if writers}


def _tables(netlink: Netlink) -> list[tuple[int, bytes]]:
    answers = netlink.request(_GET_TABLE, bytes(4), DUMP)
    return [(answer[0], attributes(answer[4:])[_NFTA_NAME]) for answer in answers]


def _title(family: int, table: bytes) -> str:
    return f"{_FAMILIES.get(family, family)} {_text(table)}"


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode("ascii", "backslashreplace")


def _writers(netlink: Netlink, family: int, table: bytes) -> Iterator[MarkWriter]:
    body = struct.pack("!BBH", family, 0, 0) + attribute(_NFTA_RULE_TABLE, table)
    for answer in netlink.request(_GET_RULE, body, DUMP):
        if _TARGET not in answer and not _SET_MARK.search(answer):
            continue  # to take all rules apart would take 30 us each
        fields = attributes(answer[4:])
        bits = written_bits(fields.get(_NFTA_RULE_EXPRESSIONS, b""))
        if bits:
            handle = _number(fields[_NFTA_RULE_HANDLE])
            yield MarkWriter(_title(family, table), _text(fields[_NFTA_RULE_CHAIN]), handle, bits)


def written_bits(expressions: bytes) -> int:
    """The bits of connection marks that a rule with these ``expressions`` may change."""
    written = 0
    register, kept = b"", 0  # where the old mark is, changed or not, and the bits of it that are as they were
    for expression in elements(expressions):
        parts = attributes(expression)
        kind, data = parts.get(_NFTA_NAME), attributes(parts.get(_NFTA_DATA, b""))
        if kind == b"ct\0" and _number(data.get(_NFTA_CT_KEY, b"")) == _CT_MARK:
            if _NFTA_CT_SREG in data:
                written |= ~kept & _ALL if data[_NFTA_CT_SREG] == register else _ALL
            register, kept = data.get(_NFTA_CT_DREG, b""), _ALL
        elif kind == b"bitwise\0" and data[_NFTA_BITWISE_SREG] == register and _NFTA_BITWISE_MASK in data:
            register = data[_NFTA_BITWISE_DREG]
            kept &= _value(data[_NFTA_BITWISE_MASK]) & ~_value(data[_NFTA_BITWISE_XOR])
        else:
            register = b""
            if kind == b"target\0" and data.get(_NFTA_TARGET_NAME) == _TARGET:
                written |= _of_target(_number(data[_NFTA_TARGET_REV]), data[_NFTA_TARGET_INFO])
    return written


def _of_target(revision: int, information: bytes) -> int:
    """The bits that the target CONNMARK may change."""
    if len(information) < _CONNMARK.size:
        return _ALL
    mark: int
    mask: int
    packet_mask: int
    mark, mask, packet_mask, *rest = _CONNMARK.unpack_from(information)
    direction, shift, mode = rest if revision >= 2 else (_LEFT, 0, rest[0])
    if mode == _SET:
        return mask | mark
    if mode == _SAVE:
        moved = packet_mask << shift if direction == _LEFT else packet_mask >> shift
        return mask | moved & _ALL
    return 0  # it writes the packet's mark


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _value(data: bytes) -> int:
    """What a register is combined with, in the machine's order of bytes."""
    return int.from_bytes(attributes(data)[1], sys.byteorder)
