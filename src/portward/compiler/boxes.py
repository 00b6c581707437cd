"""Rules as boxes of integers, split by IP version and protocol.

The only place where a rule's own values are read. Refuses to look at two rules at once.

An address match is a set of addresses, and a literal prefix is a set of one, its interval. A set whose members may
change is the whole of its field here, with its id beside the box: nothing is concluded from members it may lose.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from portward.compiler.form import Box, Element, Field, Interval, KeyPart
from portward.model import IPVersion, PortRange, Prefix, Rule

#: What a packet has that has no port: of a protocol without them, or a later fragment. Only "any port" matches it.
NO_PORT = -1
ANY_PORT: Interval = (NO_PORT, 65535)
PROTOCOLS: Interval = (0, 255)

#: Tables with a protocol of their own, beside those that must have one because their rules name ports.
_OWN_TABLES = 4

#: How many bits each field has, by IP version.
BITS: dict[IPVersion, tuple[int, int, int, int, int]] = {4: (32, 32, 16, 16, 8), 6: (128, 128, 16, 16, 8)}
_WHOLE: dict[IPVersion, Box] = {
    version: ((0, (1 << bits[0]) - 1), (0, (1 << bits[1]) - 1), ANY_PORT, ANY_PORT, PROTOCOLS)
    for version, bits in BITS.items()
}


def whole(version: IPVersion) -> Box:
    """The box that every packet of ``version`` is in."""
    return _WHOLE[version]


class Cells:
    """The cells that ``key`` cuts the packets of ``version`` into; without a key, there is one."""

    def __init__(self, version: IPVersion, key: Iterable[KeyPart] = ()) -> None:
        sizes = {field: 1 << BITS[version][field] - length for field, length in key}
        self._fields = [(field, _WHOLE[version][field], sizes.get(field)) for field in Field]

    def conditions(self, box: Box) -> list[Field]:
        """The fields of ``box`` to compare still when a packet is known to be in the cell that the box lies in."""
        return [
            field
            for field, everything, size in self._fields
            if (interval := box[field]) != everything and interval[1] - interval[0] + 1 != size
        ]

    def is_verdict(self, bucket: Sequence[Element]) -> bool:
        """Whether all packets of a cell are decided alike: by the one element of its ``bucket``."""
        return len(bucket) == 1 and not bucket[0].sets and not self.conditions(bucket[0].box)


def tables(rules: Iterable[Rule]) -> Iterator[tuple[IPVersion, int | None, list[Element]]]:
    """Each table's version, protocol and elements, in the order of rules. Disabled rules are in none.

    A rule without a protocol stands in every table of its version, and is a box of all protocols in each. A protocol
    gets a table of its own when its rules name ports, or when copies of such rules cost no more than there are rules.
    """
    places: dict[IPVersion, list[tuple[int, Rule]]] = {4: [], 6: []}
    for place, rule in enumerate(rules):
        if rule.enabled:
            places[rule.ip_version].append((place, rule))
    for version, placed in places.items():
        if not placed:
            continue
        own = _own_tables([rule for _, rule in placed])
        everything = whole(version)
        by_protocol: dict[int | None, list[Element]] = {protocol: [] for protocol in [*own, None]}
        for place, rule in placed:
            box, sets = _box(rule, everything), _sets(rule)
            if rule.protocol in own:
                by_protocol[rule.protocol].append(Element(place, (*box[:4], PROTOCOLS), sets))
            elif rule.protocol is not None:
                by_protocol[None].append(Element(place, (*box[:4], (rule.protocol, rule.protocol)), sets))
            else:
                for elements in by_protocol.values():
                    elements.append(Element(place, box, sets))
        for protocol, elements in by_protocol.items():
            if elements:
                yield version, protocol, elements


def _own_tables(rules: list[Rule]) -> list[int]:
    counts = Counter(rule.protocol for rule in rules if rule.protocol is not None)
    with_ports = {
        rule.protocol for rule in rules if rule.source_port or rule.destination_port or rule.icmp_type is not None
    }
    wild = len(rules) - counts.total()
    others = min(_OWN_TABLES, len(rules) // wild) if wild else _OWN_TABLES
    own = [protocol for protocol in counts if protocol in with_ports]
    own += [protocol for protocol, _ in counts.most_common() if protocol not in with_ports][:others]
    return sorted(own)


def _box(rule: Rule, everything: Box) -> Box:
    return (
        _addresses(rule.source, everything[Field.SOURCE]),
        _addresses(rule.destination, everything[Field.DESTINATION]),
        _ports(rule.source_port) if rule.icmp_type is None else _icmp(rule.icmp_type, rule.icmp_code),
        _ports(rule.destination_port),
        PROTOCOLS,
    )


def _sets(rule: Rule) -> tuple[tuple[Field, str], ...]:
    named = ((Field.SOURCE, rule.source_set), (Field.DESTINATION, rule.destination_set))
    return tuple((field, id_) for field, id_ in named if id_ is not None)


def _icmp(type_: int, code: int | None) -> Interval:
    return (type_ << 8, type_ << 8 | 255) if code is None else (type_ << 8 | code,) * 2


def _addresses(prefix: Prefix | None, everything: Interval) -> Interval:
    if prefix is None:
        return everything
    assert isinstance(prefix, IPv4Network | IPv6Network)
    first = int(prefix.network_address)
    return first, first | int(prefix.hostmask)


def _ports(ports: PortRange | None) -> Interval:
    return ANY_PORT if ports is None else (ports.first, ports.last)
