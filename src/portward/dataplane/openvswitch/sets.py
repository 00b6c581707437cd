"""Address sets on a bridge: one flow an address, whatever the number of rules that name the set. Pure.

Before a policy is asked, the packet's address is looked up once for each side (source, destination); that gives a
register in which a bit a set says whether the set holds the address. Rules compare bits. A register has 128, so the
sets that policies name are put together on pages; a policy has one page a side, and most bridges have one in all.
Refuses policies that name more sets on one side than a page holds.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping
from itertools import count
from operator import itemgetter
from typing import NamedTuple

from portward.dataplane.addresses import Members
from portward.dataplane.openvswitch.flows import Action, Condition, Field, Flow, Load, Resubmit
from portward.dataplane.openvswitch.layout import Table
from portward.dataplane.openvswitch.tables import IPV4, IPV6, TRACKED_VALID, flow
from portward.model import IPVersion, Prefix, Rule

#: Sets on one page: bits of a register.
PAGE_SIZE = 128
#: Parts that the flows of a page come in, so that an address that comes or goes costs its part.
PARTS = 64
_ETH_TYPE: dict[IPVersion, int] = {4: IPV4, 6: IPV6}


#: What the flows of a page come from: the bits of its sets, and their members.
Source = tuple[tuple[tuple[str, int], ...], tuple[Members, ...]]


class Side(NamedTuple):
    """One of the two addresses of a packet."""

    table: Table  # in which it is looked up
    page: Field  # register that says on which page
    bits: Field  # register that the answer is in
    address: Mapping[IPVersion, Field]


SOURCE = Side(Table.SOURCE_SETS, Field.REG9, Field.XXREG0, {4: Field.CT_NW_SRC, 6: Field.CT_IPV6_SRC})
DESTINATION = Side(Table.DESTINATION_SETS, Field.REG12, Field.XXREG1, {4: Field.CT_NW_DST, 6: Field.CT_IPV6_DST})
SIDES = (SOURCE, DESTINATION)


class Lookup(NamedTuple):
    """Where a policy finds the sets that it names on one side. Without any, there is no page."""

    page: int = 0
    bits: Mapping[str, int] = {}


#: Those of a policy: of sources, and of destinations.
Lookups = tuple[Lookup, Lookup]
NO_SETS: Lookups = (Lookup(), Lookup())


def named_sets(rules: tuple[Rule, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of the sets that ``rules`` name as sources, and as destinations."""
    sources = frozenset(rule.source_set for rule in rules if rule.source_set is not None)
    return sources, frozenset(rule.destination_set for rule in rules if rule.destination_set is not None)


def allocate(needs: Mapping[int, frozenset[str]], before: Mapping[int, Lookup]) -> dict[int, Lookup]:
    """Pages and bits for the sets that each policy, by its number, ``needs``. What was there ``before`` stays."""
    pages: dict[int, dict[str, int]] = defaultdict(dict)
    found: dict[int, Lookup] = {}
    for number, ids in needs.items():
        old = before.get(number, Lookup())
        if ids <= old.bits.keys():
            found[number] = old if ids == old.bits.keys() else Lookup(old.page, {id_: old.bits[id_] for id_ in ids})
            pages[old.page] |= found[number].bits
    for number, ids in needs.items():
        if number not in found:
            page = next(page for page in count(1) if len(pages[page].keys() | ids) <= PAGE_SIZE)
            bits = pages[page]
            free = iter(sorted(set(range(PAGE_SIZE)) - set(bits.values())))
            for id_ in sorted(ids - bits.keys()):
                bits[id_] = next(free)
            found[number] = Lookup(page, {id_: bits[id_] for id_ in sorted(ids)})
    return found


def pages_of(lookups: Mapping[int, Lookup]) -> dict[int, dict[str, int]]:
    """The bits of the sets on each page that ``lookups`` name."""
    pages: dict[int, dict[str, int]] = defaultdict(dict)
    for lookup in lookups.values():
        if lookup.bits:
            pages[lookup.page] |= lookup.bits
    return pages


def ask(lookups: Lookups) -> tuple[Action, ...]:
    """What is done before the rules of a policy are compared."""
    actions: tuple[Action, ...] = ()
    for side, lookup in zip(SIDES, lookups, strict=True):
        if lookup.bits:
            actions += (Load(side.page, lookup.page), Load(side.bits, 0), Resubmit(side.table))
    return actions


def conditions(rule: Rule, lookups: Lookups) -> Iterator[Condition]:
    """The condition that the sets which ``rule`` names hold the packet's addresses."""
    for side, lookup, id_ in zip(SIDES, lookups, (rule.source_set, rule.destination_set), strict=True):
        if id_ is not None:
            bit = 1 << lookup.bits[id_]
            yield Condition(side.bits, bit, bit)


def parts(bits: Mapping[str, int], members: Mapping[str, Members], version: IPVersion) -> dict[int, dict[Prefix, int]]:
    """What the register says for each prefix, those of a page in parts; the longest prefix of an address counts."""
    raw: dict[Prefix, int] = defaultdict(int)
    for id_, bit in bits.items():
        for prefix in members[id_].prefixes[version]:
            raw[prefix] |= 1 << bit
    found: dict[int, dict[Prefix, int]] = defaultdict(dict)
    around: list[tuple[int, int]] = []  # last address and value of the prefixes that hold the next one
    spans = [(int(prefix.network_address), prefix.prefixlen, prefix, value) for prefix, value in raw.items()]
    for first, _, prefix, value in sorted(spans, key=itemgetter(0, 1)):
        while around and around[-1][0] < first:
            around.pop()
        value |= around[-1][1] if around else 0
        around.append((int(prefix.broadcast_address), value))
        found[hash(prefix) % PARTS][prefix] = value
    return found


def changed_addresses(before: Source, after: Source, version: IPVersion) -> frozenset[Prefix] | None:
    """The addresses that came to some set of a page, or left it; ``None``: more is different than single addresses."""
    if before[0] != after[0]:
        return None
    changed = frozenset[Prefix]()
    for old, new in zip(before[1], after[1], strict=True):
        if old is not new:
            changed |= old.prefixes[version] ^ new.prefixes[version]
    return changed if all(prefix.prefixlen == prefix.max_prefixlen for prefix in changed) else None


def edited_parts(
    values: Mapping[int, Mapping[Prefix, int]], changed: Collection[Prefix], source: Source, version: IPVersion
) -> dict[int, dict[Prefix, int]]:
    """Those of the parts of a page, whose ``values`` were these, that differ once these addresses have changed."""
    found: dict[int, dict[Prefix, int]] = {}
    lengths = {prefix.prefixlen for one in source[1] for prefix in one.prefixes[version]}
    for address in changed:
        part = hash(address) % PARTS
        around = [address.supernet(new_prefix=length) for length in lengths]
        value = 0
        for (_, bit), one in zip(*source, strict=True):
            value |= any(prefix in one.prefixes[version] for prefix in around) << bit
        edited = found.setdefault(part, {**values.get(part, {})})
        if any(address in one.prefixes[version] for one in source[1]):
            edited[address] = value
        else:
            edited.pop(address, None)
    return found


def part_flows(side: Side, page: int, version: IPVersion, values: Mapping[Prefix, int]) -> Iterator[Flow]:
    """The flows of one part."""
    asked = ((side.page, page), (Field.ETH_TYPE, _ETH_TYPE[version]), TRACKED_VALID)
    for prefix, value in values.items():
        where = []
        if prefix.prefixlen:
            mask = None if prefix.prefixlen == prefix.max_prefixlen else int(prefix.netmask)
            where = [Condition(side.address[version], int(prefix.network_address), mask)]
        yield flow(side.table, prefix.prefixlen + 1, [*asked, *where], Load(side.bits, value))


def source_of(bits: Mapping[str, int], members: Mapping[str, Members]) -> Source:
    """Equal values: equal flows."""
    ordered = tuple(sorted(bits.items()))
    return ordered, tuple(members[id_] for id_, _ in ordered)


def part_key(side: Side, page: int, version: IPVersion, part: int) -> Hashable:
    """The key of a part's section in a plan."""
    return "set", side.table, page, version, part
