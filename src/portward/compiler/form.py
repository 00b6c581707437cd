"""The compiled form of an ordered list of rules, for back ends to lay out.

A packet is decided by the one table of its IP version and protocol. The table's steps are tried in order; the first
one that has an element for the packet holds the first match. Elements name rules by their place in the list that was
compiled, so counters and explanations survive every layout.

Refuses to know what an action is, and in which syntax a step is written.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import msgspec

from portward.model import IPVersion

#: Values ``first`` to ``last`` of a field, both included. Of ports, -1 is "none" and any port is -1 to 65535. A back
#: end that sees packets reassembled, and looks up ports of protocols that have them alone, may write -1 as 0.
Interval = tuple[int, int]


class Field(IntEnum):
    """What a rule matches on. The value is the field's place in a box."""

    SOURCE = 0
    DESTINATION = 1
    SOURCE_PORT = 2  # of ICMP: type and code, which stand where other protocols have their source port
    DESTINATION_PORT = 3
    PROTOCOL = 4


#: One interval for each ``Field``, in the order of their values.
Box = tuple[Interval, Interval, Interval, Interval, Interval]


class Element(NamedTuple):
    """A rule's place in the list, and what it matches: what is in the box, and in each of the address sets."""

    rule: int
    box: Box
    sets: tuple[tuple[Field, str], ...] = ()  # by field, the id of the set that its value must be in


class KeyPart(NamedTuple):
    """The first ``length`` bits of a field, as one part of the key of a ``Hash``."""

    field: Field
    length: int


class Hash(msgspec.Struct, frozen=True):
    """One exact lookup of a few masked fields; it leads to a bucket, whose elements are tried in order.

    ``buckets`` maps the values of ``key``'s parts, shifted right so that only their bits are left, to elements that
    lie in the bucket altogether. A bucket of one element without a further condition is a verdict of its own.
    """

    key: tuple[KeyPart, ...]
    buckets: dict[tuple[int, ...], tuple[Element, ...]]

    def elements(self) -> Iterator[Element]:
        """Every element, bucket by bucket."""
        for bucket in self.buckets.values():
            yield from bucket


class Ranges(msgspec.Struct, frozen=True):
    """One lookup of a concatenation of intervals. No two elements overlap.

    ``fields`` are those in which some element does not match everything, the one that narrows fastest first.
    """

    fields: tuple[Field, ...]
    members: tuple[Element, ...]

    def elements(self) -> Iterator[Element]:
        """Every element, in the order of rules."""
        yield from self.members


class Linear(msgspec.Struct, frozen=True):
    """Elements that are tried one by one, in the order of rules."""

    members: tuple[Element, ...]

    def elements(self) -> Iterator[Element]:
        """Every element, in the order in which they are tried."""
        yield from self.members


Step = Hash | Ranges | Linear


class Table(msgspec.Struct, frozen=True):
    """What decides for packets of ``version`` and ``protocol``.

    ``protocol`` None: every protocol that has no table of its own. No element of such a table names ports, and
    ``Field.PROTOCOL`` is a field like others there; in the other tables it says nothing.

    ``ordered`` is the same in plain priority order, for back ends that have priorities: every element that can be the
    first match.
    """

    version: IPVersion
    protocol: int | None
    ordered: tuple[Element, ...]
    steps: tuple[Step, ...]
    cost: float  # nanoseconds of a packet that no element matches, estimated


class Form(msgspec.Struct, frozen=True):
    """A list of rules, compiled. Without a table for a packet, no rule matches it."""

    tables: tuple[Table, ...]
    unreachable: frozenset[int]  # places of rules that can never be the first match; disabled ones among them
