"""A version of a list of rules as nft objects: chains, and verdict maps for what the compiler made a lookup. Pure.

Allowed is ``return``, behind the dispatch, however deep the ``goto``s were, so one layout serves both directions and
both sides of a router. Replies of connections that are judged anew take chains of their own, in which addresses and
ports are swapped; maps serve both, except where a map leads to chains.

Every rule and element that decides carries a counter and the id of its rule as comment, so the table tells by itself
how often a rule decided. What is laid out names no namespace: ``Layout.text`` puts the names in.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from socket import AF_INET, AF_INET6, inet_ntop

import msgspec

from portward.compiler import (
    BITS,
    Element,
    Field,
    Form,
    Hash,
    Interval,
    KeyPart,
    Linear,
    Ranges,
    Table,
    compile_rules,
    conditions,
    is_verdict,
)
from portward.dataplane.nftables.lists import ListKey, Part
from portward.model import Action, IPVersion, Rule, Stratum

_ROOT, _REFUSE = "$root", "$refuse"  # nothing else in the text has a "$"
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
_TYPES = {Field.SOURCE_PORT: "inet_service", Field.DESTINATION_PORT: "inet_service", Field.PROTOCOL: "inet_proto"}


class Layout(msgspec.Struct, frozen=True):
    """What a version of a list consists of, whatever its name."""

    body: str
    objects: tuple[tuple[str, str], ...]  # (kind, title); what an object leads to stands behind it

    def text(self, root: str, refuse: str) -> str:
        """The body of a table block. The version is entered by ``root`` and ``root/reply``; ``refuse`` rejects."""
        return self.body.replace(_ROOT, root).replace(_REFUSE, refuse)

    def titles(self, root: str) -> list[tuple[str, str]]:
        """(kind, name) of each object, in an order in which they can be deleted."""
        return [(kind, title.replace(_ROOT, root)) for kind, title in self.objects]


class Layouts:
    """Layouts of lists, each made once for all namespaces."""

    def __init__(self) -> None:
        self._made: dict[ListKey, tuple[tuple[Part, ...], Layout]] = {}

    def of(self, key: ListKey, parts: tuple[Part, ...]) -> Layout:
        """The layout of the list ``key`` as it is now."""
        made = self._made.get(key)
        if made is None or made[0] != parts:
            made = self._made[key] = (parts, lay_out(parts))
        return made[1]

    def keep(self, keys: set[ListKey]) -> None:
        """Forget all but the lists ``keys``."""
        for key in self._made.keys() - keys:
            del self._made[key]


def lay_out(parts: tuple[Part, ...]) -> Layout:
    """The objects that decide as ``parts`` do, one after the other."""
    end = "drop" if any(part.stratum is Stratum.TENANT for part in parts) else "return"
    parts = parts or (Part(Stratum.BASELINE),)
    strata = [(stratum, list(members)) for stratum, members in groupby(parts, key=attrgetter("stratum"))]
    # A table costs one level, a step with buckets two, the way to a further stratum one, a reject one.
    chained = (_DEPTH - _DEPTH_BEFORE - 2 * len(strata)) // (2 * len(strata))
    writer = _Writer()
    entries = [_ROOT, *(f"{_ROOT}/{stratum}" for stratum, _ in strata[1:])]
    for entry, following, (stratum, members) in zip(entries, [*entries[1:], None], strata, strict=True):
        rules, closed = _rules(members)
        form = compile_rules(rules, chained=chained)
        writer.begin_stratum(f"{_ROOT}/{stratum}")
        for suffix in ("", "/reply"):
            onward = "drop" if closed else f"goto {following}{suffix}" if following else end
            writer.stratum(entry, form, _Way(suffix, onward, rules))
    return writer.layout()


def _rules(members: Sequence[Part]) -> tuple[list[Rule], bool]:
    """The rules of one stratum, and whether all that they do not decide is denied."""
    rules: list[Rule] = []
    for part in members:
        if part.closed:
            return rules, True
        rules += part.rules
    return rules, False


class _Way:
    """How packets of one direction of their connection are matched and decided in a stratum."""

    def __init__(self, suffix: str, onward: str, rules: Sequence[Rule]) -> None:
        self.suffix = suffix  # of names of chains that serve this direction alone
        self.onward = onward  # what becomes of a packet that no rule decides
        verdicts = {
            Action.ALLOW: "return",
            Action.DENY: "drop",
            Action.REJECT: f"goto {_REFUSE}",
            Action.PASS: onward,
        }
        self._decided = [(f'comment "{rule.id}"', verdicts[rule.action]) for rule in rules]

    def expression(self, version: IPVersion, field: Field) -> str:
        """What of a packet is compared."""
        return _EXPRESSIONS[field][bool(self.suffix)].format("ip" if version == 4 else "ip6")

    def rule(self, version: IPVersion, element: Element, fields: Sequence[Field]) -> str:
        """The rule that compares ``fields`` and decides."""
        matches = [
            f"{self.expression(version, field)} {_interval(version, field, element.box[field])} " for field in fields
        ]
        comment, verdict = self._decided[element.rule]
        return f"{''.join(matches)}counter {verdict} {comment}"

    def element(self, key: str, element: Element) -> str:
        """The element of a map that decides for ``key``."""
        comment, verdict = self._decided[element.rule]
        return f"{key} {comment} : {verdict}"


class _Writer:
    """Collects objects, with how deep each lies: what leads to an object lies above it, and is deleted first."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._objects: list[tuple[int, str, str]] = []
        self._top = self._deepest = 0

    def layout(self) -> Layout:
        """All that was collected."""
        ordered = sorted(self._objects, key=itemgetter(0))
        return Layout("".join(self._text), tuple((kind, title) for _, kind, title in ordered))

    def chain(self, title: str, lines: Sequence[str], depth: int = 0) -> None:
        """One chain, ``depth`` below the entry of its stratum."""
        self._text.append(f"chain {title} {{\n" + "".join([f"  {line}\n" for line in lines]) + "}\n")
        self._note(depth, "chain", title)

    def begin_stratum(self, name: str) -> None:
        """What is written from here on is called ``name`` and lies below all that was written before."""
        self._name = name
        self._top = self._deepest + 1

    def stratum(self, entry: str, form: Form, way: _Way) -> None:
        """The chains of a stratum for one direction; maps are written with those of original packets."""
        lines = []
        for table in form.tables:
            own = "" if table.protocol is None else f"meta l4proto {table.protocol:d} "
            title = f"{self._name}/{table.version}/{'any' if table.protocol is None else table.protocol}"
            lines.append(f"meta nfproto ipv{table.version} {own}goto {title}{way.suffix}")
            self._steps(title, table, 0, way, depth=1)
        self.chain(entry + way.suffix, [*lines, way.onward])

    def _steps(self, title: str, table: Table, first: int, way: _Way, depth: int) -> None:
        """The chain that takes the steps of ``table`` from ``first`` on."""
        lines: list[str] = []
        version, onward, following = table.version, way.onward, None
        for place, step in enumerate(table.steps[first:], first):
            if isinstance(step, Linear):
                lines += [way.rule(version, element, _compared(version, (), element)) for element in step.members]
                continue
            if place + 1 < len(table.steps):
                onward = f"goto {title}/{place + 1}{way.suffix}"
            lookup, chained = self._lookup(f"{title}/{place}", version, step, way, onward, depth)
            lines.append(lookup)
            if chained:
                following = place + 1
                break
            onward = way.onward
        self.chain(f"{title}/{first}{way.suffix}" if first else f"{title}{way.suffix}", [*lines, onward], depth)
        if following is not None and following < len(table.steps):
            self._steps(title, table, following, way, depth + 3)

    def _lookup(
        self, title: str, version: IPVersion, step: Hash | Ranges, way: _Way, onward: str, depth: int
    ) -> tuple[str, bool]:
        """The rule that looks ``step`` up, and whether buckets of it go ``onward`` by themselves."""
        chained = False
        if isinstance(step, Ranges):
            fields, expressions = step.fields, [way.expression(version, field) for field in step.fields]
            elements = [way.element(_intervals(version, fields, element), element) for element in step.members]
        else:
            fields = tuple(field for field, _ in step.key)
            expressions = [way.expression(version, field) + _mask(version, field, bits) for field, bits in step.key]
            elements = []
            for number, (values, bucket) in enumerate(step.buckets.items()):
                key = _cell(version, step, values)
                if is_verdict(version, step.key, bucket):
                    elements.append(way.element(key, bucket[0]))
                else:
                    chained = True
                    chain = f"{title}/{number}{way.suffix}"
                    elements.append(f"{key} : goto {chain}")
                    rules = [way.rule(version, item, _compared(version, step.key, item)) for item in bucket]
                    self.chain(chain, [*rules, onward], depth + 2)
        own_way = any(_ROOT in element for element in elements)
        name = f"{title}{way.suffix}" if own_way else title
        if own_way or not way.suffix:
            types = " . ".join(_TYPES.get(field, f"ipv{version}_addr") for field in fields)
            flags = "  flags interval\n" if isinstance(step, Ranges) else ""
            counter = "  counter\n" if any("comment" in element for element in elements) else ""
            listed = ",\n".join(elements)
            self._text.append(
                f"map {name} {{\n  type {types} : verdict\n{flags}{counter}  elements = {{\n{listed}\n}}\n}}\n"
            )
            self._note(depth + 1, "map", name)
        return f"{' . '.join(expressions)} vmap @{name}", chained

    def _note(self, depth: int, kind: str, title: str) -> None:
        self._objects.append((self._top + depth, kind, title))
        self._deepest = max(self._deepest, self._top + depth)


def _compared(version: IPVersion, key: Sequence[KeyPart], element: Element) -> list[Field]:
    """The fields of ``element`` that a rule has to compare, in a bucket of ``key``."""
    return [
        field
        for field in conditions(version, key, element.box)
        if field not in _PORTS or element.box[field] != _EVERY_PORT  # every packet of the table has ports
    ]


def _mask(version: IPVersion, field: Field, bits: int) -> str:
    size = BITS[version][field]
    return "" if bits == size else f" & {_value(version, field, (1 << size) - (1 << size - bits))}"


def _cell(version: IPVersion, step: Hash, values: tuple[int, ...]) -> str:
    return " . ".join(
        [
            _value(version, field, value << BITS[version][field] - bits)
            for (field, bits), value in zip(step.key, values, strict=True)
        ]
    )


def _intervals(version: IPVersion, fields: Sequence[Field], element: Element) -> str:
    return " . ".join([_interval(version, field, element.box[field]) for field in fields])


def _interval(version: IPVersion, field: Field, interval: Interval) -> str:
    first, last = max(0, interval[0]), interval[1]
    if first == last:
        return _value(version, field, first)
    size = last - first + 1
    if field not in _TYPES and not size & (size - 1) and not first % size:  # cheaper to compare than a range
        return f"{_value(version, field, first)}/{BITS[version][field] - size.bit_length() + 1}"
    return f"{_value(version, field, first)}-{_value(version, field, last)}"


def _value(version: IPVersion, field: Field, value: int) -> str:
    if field not in _TYPES:
        return (
            inet_ntop(AF_INET, value.to_bytes(4, "big"))
            if version == 4
            else inet_ntop(AF_INET6, value.to_bytes(16, "big"))
        )
    return str(value)
