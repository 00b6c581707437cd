"""Address sets as nft sets: their names, and how their elements change. Pure.

A set of each IP version is a set of intervals, each a prefix that no other member holds; so an address that comes or
goes is one element, whatever the size of the set. Which transaction carries a change is ``change``'s business.

Elements are changed by messages of our own making: libnftables reads the whole set for each (30 ms for 10,000).
"""

import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from portward.compiler import BITS, Field
from portward.dataplane.addresses import Members
from portward.dataplane.nftables.netlink import attribute
from portward.dataplane.nftables.ruleset import TABLE, name
from portward.model import Action, IPVersion, Prefix, Rule

#: linux/netfilter/nf_tables.h: add and delete elements of a set.
_ADD, _DELETE = 10 << 8 | 12, 10 << 8 | 14
_INET = struct.pack("!BBH", 1, 0, 0)
_END = attribute(3, struct.pack("!I", 1))  # of an interval: the first address behind it
_PER_MESSAGE = 250


class InstalledSet(msgspec.Struct, frozen=True):
    """An address set that stands in the kernel."""

    serial: int  # of the change that made it
    members: Members


class Use(NamedTuple):
    """In which field a rule looks an address set up, and what it does with what the set holds."""

    field: Field
    action: Action


def uses_of(rules: Iterable[Rule]) -> dict[str, frozenset[Use]]:
    """How ``rules`` use address sets, by the ids of these."""
    found: dict[str, set[Use]] = defaultdict(set)
    for rule in rules:
        for field, id_ in ((Field.SOURCE, rule.source_set), (Field.DESTINATION, rule.destination_set)):
            if id_ is not None:
                found[id_].add(Use(field, rule.action))
    return {id_: frozenset(uses) for id_, uses in found.items()}


def set_title(serial: int, id_: str, version: IPVersion) -> str:
    """The name of the nft set that change ``serial`` made of the address set ``id_``."""
    return name(serial, "set", id_, str(version))


def titles(id_: str, installed: InstalledSet) -> list[tuple[str, str]]:
    """(kind, name) of what an address set is made of."""
    return [("set", set_title(installed.serial, id_, version)) for version in BITS]


def sets_text(sets: dict[str, InstalledSet]) -> str:
    """What makes ``sets``, as part of the body of a table block."""
    text = ""
    for id_, installed in sets.items():
        for version, prefixes in installed.members.prefixes.items():
            content = f"  elements = {{ {_listed(prefixes)} }}\n" if prefixes else ""
            title = set_title(installed.serial, id_, version)
            text += f"set {title} {{\n  type ipv{version}_addr\n  flags interval\n{content}}}\n"
    return text


def may_edit(before: Members, after: Members, uses: Collection[Use]) -> bool:
    """Whether a packet that is looked up several times, some before and some after an edit, is decided as all or none.

    So it is when all rules of it do the same, and the one address of the packet that is looked up, or else all that
    change, come or go alike: what the set says of the packet then changes once, in one direction. Nor may one that
    comes overlap one that goes: older kernels stop at the nearest interval also where it is not valid yet, or not any
    more, and so for a moment find neither.
    """
    one_action = len({use.action for use in uses}) <= 1
    one_field = len({use.field for use in uses}) <= 1
    changes = [
        (after.prefixes[version] - before.prefixes[version], before.prefixes[version] - after.prefixes[version])
        for version in BITS
    ]
    alike = not (any(came for came, _ in changes) and any(gone for _, gone in changes))
    return one_action and (one_field or alike) and not any(_overlap(came, gone) for came, gone in changes)


def _overlap(one: Collection[Prefix], other: Collection[Prefix]) -> bool:
    """Whether two lists of prefixes, in neither of which any overlap, have an address in common."""
    if not one or not other:
        return False
    end = -1  # of the last: as long as none overlap, no other ends later
    for prefix in sorted((*one, *other), key=_first):
        if _first(prefix) <= end:
            return True
        end = int(prefix.broadcast_address)
    return False


#: Messages of netlink, type and body, that are one transaction.
Edit = Sequence[tuple[int, bytes]]


def edit(installed: InstalledSet, members: Members) -> Edit:
    """What gives a set that stands other members."""
    messages: list[tuple[int, bytes]] = []
    for version, before in installed.members.prefixes.items():
        after = members.prefixes[version]
        of = attribute(1, TABLE.split()[1].encode() + b"\0")
        of += attribute(2, set_title(installed.serial, members.id, version).encode() + b"\0")
        for kind, prefixes in ((_DELETE, before - after), (_ADD, after - before)):
            waiting = iter(sorted(prefixes, key=_first))
            while some := list(islice(waiting, _PER_MESSAGE)):
                listed = b"".join(element for prefix in some for element in _elements(prefix))
                messages.append((kind, _INET + of + attribute(3, listed, nested=True)))
    return messages


def _first(prefix: Prefix) -> int:
    return int(prefix.network_address)


def _elements(prefix: Prefix) -> Iterator[bytes]:
    """The first address of ``prefix``, and the first behind it if there is one."""
    size = prefix.max_prefixlen // 8
    yield _element(_first(prefix).to_bytes(size, "big"))
    behind = int(prefix.broadcast_address) + 1
    if behind < 1 << prefix.max_prefixlen:
        yield _element(behind.to_bytes(size, "big"), _END)


def _element(key: bytes, flags: bytes = b"") -> bytes:
    return attribute(1, attribute(1, attribute(1, key), nested=True) + flags, nested=True)


def _listed(prefixes: Iterable[Prefix]) -> str:
    return ", ".join(map(str, prefixes))
