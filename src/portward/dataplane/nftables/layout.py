"""A version of a list of rules as nft objects: chains, and verdict maps for what the compiler made a lookup. Pure.

Allowed is ``return``, behind the dispatch, however deep the ``goto``s were, so one layout serves both directions and
both sides of a router. Replies of connections that are judged anew take chains of their own, in which addresses and
ports are swapped; maps serve both, except where a map leads to chains.

Every rule and element that decides carries a counter and the id of its rule as comment, so the table tells by itself
how often a rule decided. Address sets are nft sets that stand apart and are looked up by rules alone. What is laid out
names no namespace: ``Layout.text`` puts the names in.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from socket import AF_INET, AF_INET6, inet_ntop
from weakref import WeakValueDictionary

import msgspec

from portward.compiler import (
    BITS,
    Cells,
    Element,
    Field,
    Form,
    Hash,
    Interval,
    Linear,
    Ranges,
    Table,
    compile_rules,
)
from portward.dataplane.lists import ListKey, Part
from portward.dataplane.nftables.sets import Use, set_title, uses_of
from portward.model import ICMP, ICMPV6, Action, IPVersion, Rule, Stratum
from portward.model.packet import ICMP_INVERSE, ICMPV6_INVERSE

_ROOT, _REFUSE = "$root", "$refuse"  # nothing else in the text has a "$", but ids of address sets
#: The most jumps and gotos in a row that a kernel takes, and those before the first table: epoch, its replies, the
#: device's chain, the list's, the version's.
_DEPTH = 14
_DEPTH_BEFORE = 5

_EXPRESSIONS = {
    Field.SOURCE: ("{} saddr", "{} daddr"),
    Field.DESTINATION: ("{} daddr", "{} saddr"),
    Field.SOURCE_PORT: ("th sport", "th dport"),
    Field.DESTINATION_PORT: ("th dport", "th sport"),
    Field.PROTOCOL: ("meta l4proto", "meta l4proto"),
}
_PORTS = (Field.SOURCE_PORT, Field.DESTINATION_PORT)
_EVERY_PORT = (0, 65535)
#: By protocol, the type of the answer to a type.
_INVERSE = {ICMP: ICMP_INVERSE, ICMPV6: ICMPV6_INVERSE}
_TYPES = {Field.SOURCE_PORT: "inet_service", Field.DESTINATION_PORT: "inet_service", Field.PROTOCOL: "inet_proto"}


class Layout(msgspec.Struct, frozen=True, weakref=True):
    """What a version of a list consists of, whatever its name."""

    parts: tuple[Part, ...]  # that it is of
    body: str
    objects: tuple[tuple[str, str], ...]  # (kind, title); what an object leads to stands behind it
    uses: Mapping[str, frozenset[Use]]  # of each address set that it looks up, by id

    def text(self, root: str, refuse: str, serials: Mapping[str, int]) -> str:
        """The body of a table block. The version is entered by ``root`` and ``root/reply``; ``refuse`` rejects.

        ``serials`` are those of the changes that made the address sets that it names.
        """
        body = self.body.replace(_ROOT, root).replace(_REFUSE, refuse)
        for id_ in self.uses:
            for version in BITS:
                body = body.replace(f"${id_}/{version}", set_title(serials[id_], id_, version))
        return body

    def titles(self, root: str) -> list[tuple[str, str]]:
        """(kind, name) of each object, in an order in which they can be deleted."""
        return [(kind, title.replace(_ROOT, root)) for kind, title in self.objects]


class Layouts:
    """Layouts of lists, each made once for all namespaces, and kept as long as one of them has it."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[ListKey, Layout] = WeakValueDictionary()

    def of(self, key: ListKey, parts: tuple[Part, ...]) -> Layout:
        """The layout of the list ``key`` as it is now."""
        made = self._made.get(key)
        if made is None or made.parts != parts:
            made = self._made[key] = lay_out(parts)
        return made


def lay_out(parts: tuple[Part, ...]) -> Layout:
    """The objects that decide as ``parts`` do, one after the other."""
    end = "drop" if any(part.stratum is Stratum.TENANT for part in parts) else "return"
    by_stratum = groupby(parts or (Part(Stratum.BASELINE),), key=attrgetter("stratum"))
    strata = [(stratum, list(members)) for stratum, members in by_stratum]
    # A table costs one level, a step with buckets two, the way to a further stratum one, a reject one.
    chained = (_DEPTH - _DEPTH_BEFORE - 2 * len(strata)) // (2 * len(strata))
    writer = _Writer()
    entries = [_ROOT, *(f"{_ROOT}/{stratum}" for stratum, _ in strata[1:])]
    for entry, following, (stratum, members) in zip(entries, [*entries[1:], None], strata, strict=True):
        rules, closed = _rules(members)
        ways = [
            _Way(suffix, "drop" if closed else f"goto {following}{suffix}" if following else end, rules)
            for suffix in ("", "/reply")
        ]
        writer.stratum(entry, f"{_ROOT}/{stratum}", compile_rules(rules, chained=chained), ways)
    return writer.layout(parts)


def _rules(members: Sequence[Part]) -> tuple[list[Rule], bool]:
    """The rules of one stratum, and whether all that they do not decide is denied."""
    rules: list[Rule] = []
    for part in members:
        if part.closed:
            return rules, True
        rules += part.rules
    return rules, False


class _Way:
    """How the packets of one direction of their connection are matched and decided in a stratum."""

    def __init__(self, suffix: str, onward: str, rules: Sequence[Rule]) -> None:
        self.suffix = suffix  # of the names of objects that serve this direction alone; none of the original one
        self.onward = onward  # what becomes of a packet that no rule decides
        verdicts = {
            Action.ALLOW: "return",
            Action.DENY: "drop",
            Action.REJECT: f"goto {_REFUSE}",
            Action.PASS: onward,
        }
        self._decided = [(f'comment "{rule.id}"', verdicts[rule.action]) for rule in rules]
        #: Whether a rule's verdict is another one than in the other direction.
        self.differs = any(rule.action is Action.PASS for rule in rules)

    def expression(self, table: Table, field: Field) -> str:
        """What of a packet is compared."""
        swapped = bool(self.suffix) and not _is_icmp_word(table, field)
        return _EXPRESSIONS[field][swapped].format("ip" if table.version == 4 else "ip6")

    def interval(self, table: Table, field: Field, interval: Interval) -> Interval:
        """What ``interval`` of the first packet is in the packets of this way."""
        if not self.suffix or not _is_icmp_word(table, field) or interval[0] < 0:
            return interval
        type_ = _INVERSE[table.protocol or 0].get(interval[0] >> 8, interval[0] >> 8)
        return type_ << 8 | interval[0] & 0xFF, type_ << 8 | interval[1] & 0xFF

    def rule(self, table: Table, cells: Cells, element: Element) -> str:
        """The rule that compares what is not known of a packet in its cell, and decides."""
        matches = [
            f"{self.expression(table, field)} "
            f"{_interval(table.version, field, self.interval(table, field, element.box[field]))} "
            for field in cells.conditions(element.box)
            if field not in _PORTS or element.box[field] != _EVERY_PORT  # packets of a table with ports have some
        ]
        matches += [f"{self.expression(table, field)} @${id_}/{table.version} " for field, id_ in element.sets]
        comment, verdict = self._decided[element.rule]
        return f"{''.join(matches)}counter {verdict} {comment}"

    def element(self, key: str, element: Element) -> str:
        """The element of a map that decides for ``key``."""
        comment, verdict = self._decided[element.rule]
        return f"{key} {comment} : {verdict}"


class _Lookup:
    """A step that is one lookup in a map, whichever way."""

    def __init__(self, table: Table, step: Hash | Ranges) -> None:
        self.table = table
        self.step = step
        self.intervals = isinstance(step, Ranges)
        if isinstance(step, Ranges):
            self.cells = Cells(table.version)
            self._key = [(field, "") for field in step.fields]
            self.buckets: list[tuple[Element, ...]] = [(element,) for element in step.members]
            self.chained = [False] * len(self.buckets)
        else:
            self.cells = Cells(table.version, step.key)
            self._key = [(field, _mask(table.version, field, bits)) for field, bits in step.key]
            self.buckets = list(step.buckets.values())
            self.chained = [not self.cells.is_verdict(bucket) for bucket in self.buckets]
        #: Whether an answer has other values in the fields of the key than the packet that it answers.
        self.differs = any(_is_icmp_word(table, field) for field, _ in self._key)

    @property
    def types(self) -> str:
        """Of the map's keys."""
        return " . ".join([_TYPES.get(field, f"ipv{self.table.version}_addr") for field, _ in self._key])

    def expression(self, way: _Way) -> str:
        """What of a packet is looked up."""
        return " . ".join([way.expression(self.table, field) + mask for field, mask in self._key])

    def keys(self, way: _Way) -> list[str]:
        """The keys of the buckets."""
        version = self.table.version
        if isinstance(self.step, Ranges):
            return [
                " . ".join(
                    [
                        _interval(version, field, way.interval(self.table, field, element.box[field]))
                        for field in self.step.fields
                    ]
                )
                for element in self.step.members
            ]
        shifts = [(field, BITS[version][field] - bits) for field, bits in self.step.key]
        return [
            " . ".join(
                [
                    _value(version, field, way.interval(self.table, field, (value << shift, value << shift))[0])
                    for (field, shift), value in zip(shifts, values, strict=True)
                ]
            )
            for values in self.step.buckets
        ]


class _Writer:
    """Collects objects, with how deep each lies: what leads to an object lies above it, and is deleted first."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._objects: list[tuple[int, str, str]] = []

    def layout(self, parts: tuple[Part, ...]) -> Layout:
        """All that was collected, as the layout of ``parts``."""
        ordered = sorted(self._objects, key=itemgetter(0))
        objects = tuple((kind, title) for _, kind, title in ordered)
        return Layout(parts, "".join(self._text), objects, uses_of(rule for part in parts for rule in part.rules))

    def stratum(self, entry: str, name: str, form: Form, ways: Sequence[_Way]) -> None:
        """The chains of a stratum, entered by ``entry``, below all that was collected before."""
        top = max((depth for depth, _, _ in self._objects), default=0) + 1
        lines: list[list[str]] = [[] for _ in ways]
        for table in form.tables:
            title = f"{name}/{table.version}/{'any' if table.protocol is None else table.protocol}"
            protocol = "" if table.protocol is None else f"meta l4proto {table.protocol:d} "
            for way, own in zip(ways, lines, strict=True):
                own.append(f"meta nfproto ipv{table.version} {protocol}goto {title}{way.suffix}")
            self._steps(title, table, 0, ways, top + 1)
        for way, own in zip(ways, lines, strict=True):
            self._chain(entry + way.suffix, [*own, way.onward], top)

    def _steps(self, title: str, table: Table, first: int, ways: Sequence[_Way], depth: int) -> None:
        """The chains that take the steps of ``table`` from ``first`` on."""
        lines: list[list[str]] = [[] for _ in ways]
        onward = None
        for place, step in enumerate(table.steps[first:], first):
            if isinstance(step, Linear):
                everywhere = Cells(table.version)
                for way, own in zip(ways, lines, strict=True):
                    own += [way.rule(table, everywhere, element) for element in step.members]
                continue
            lookup = _Lookup(table, step)
            if any(lookup.chained) and place + 1 < len(table.steps):
                onward = f"{title}/{place + 1}"
            for way, own in zip(ways, lines, strict=True):
                miss = f"goto {onward}{way.suffix}" if onward else way.onward
                own.append(self._lookup(f"{title}/{place}", lookup, way, miss, depth + 1))
            if onward:
                self._steps(title, table, place + 1, ways, depth + 3)
                break
        for way, own in zip(ways, lines, strict=True):
            name = f"{title}/{first}" if first else title
            self._chain(name + way.suffix, [*own, f"goto {onward}{way.suffix}" if onward else way.onward], depth)

    def _lookup(self, title: str, lookup: _Lookup, way: _Way, miss: str, depth: int) -> str:
        """The rule that looks something up in a map; what its buckets do not decide goes to ``miss``."""
        turns = any(lookup.chained) or lookup.differs or way.differs
        name = title + way.suffix if turns else title
        if turns or not way.suffix:
            elements = []
            for number, (key, bucket) in enumerate(zip(lookup.keys(way), lookup.buckets, strict=True)):
                if lookup.chained[number]:
                    chain = f"{title}/{number}{way.suffix}"
                    elements.append(f"{key} : goto {chain}")
                    rules = [way.rule(lookup.table, lookup.cells, element) for element in bucket]
                    self._chain(chain, [*rules, miss], depth + 1)
                else:
                    elements.append(way.element(key, bucket[0]))
            lines = [f"type {lookup.types} : verdict"]
            # A hash of no fixed size grows after it is filled, and counters read meanwhile are missed, or met twice.
            lines += ["flags interval" if lookup.intervals else f"size {len(elements)}"]
            lines += ["counter"] * (not all(lookup.chained))
            listed = ",\n".join(elements)
            self._object("map", name, [*lines, f"elements = {{\n{listed}\n}}"], depth)
        return f"{lookup.expression(way)} vmap @{name}"

    def _chain(self, title: str, lines: Sequence[str], depth: int) -> None:
        self._object("chain", title, lines, depth)

    def _object(self, kind: str, title: str, lines: Sequence[str], depth: int) -> None:
        self._text.append(f"{kind} {title} {{\n" + "".join([f"  {line}\n" for line in lines]) + "}\n")
        self._objects.append((depth, kind, title))


def _mask(version: IPVersion, field: Field, bits: int) -> str:
    size = BITS[version][field]
    return "" if bits == size else f" & {_value(version, field, (1 << size) - (1 << size - bits))}"


def _is_icmp_word(table: Table, field: Field) -> bool:
    """Whether the field is the type and code of ICMP, which an answer inverts where others swap ports."""
    return field is Field.SOURCE_PORT and table.protocol in _INVERSE


def _interval(version: IPVersion, field: Field, interval: Interval) -> str:
    first, last = max(0, interval[0]), interval[1]
    if first == last:
        return _value(version, field, first)
    size = last - first + 1
    if field not in _TYPES and not size & (size - 1) and not first % size:  # cheaper to compare than a range
        return f"{_value(version, field, first)}/{BITS[version][field] - size.bit_length() + 1}"
    return f"{_value(version, field, first)}-{_value(version, field, last)}"


def _value(version: IPVersion, field: Field, value: int) -> str:
    if field in _TYPES:
        return str(value)
    return (
        inet_ntop(AF_INET, value.to_bytes(4, "big")) if version == 4 else inet_ntop(AF_INET6, value.to_bytes(16, "big"))
    )
