"""What a run of the differential test has covered, and whether that is enough."""

from dataclasses import dataclass, fields

from portward.compiler import Form, Hash, Linear, Ranges


@dataclass
class Counts:
    """What a run has covered."""

    rounds: int = 0
    policies: int = 0
    rules: int = 0
    packets: int = 0
    passed: int = 0
    denied: int = 0
    rejected: int = 0
    answered: int = 0
    replies: int = 0
    rejudged: int = 0
    cut: int = 0
    borders: int = 0  # four a named address or range: its first and last value, and what adjoins them
    inside_borders: int = 0
    outside_borders: int = 0
    nowhere: int = 0  # borders at which no packet between these ends can be
    rules_that_decided: int = 0
    disabled: int = 0
    unreachable: int = 0
    told_by_the_compiler: int = 0  # of the unreachable ones
    hash_elements: int = 0
    interval_elements: int = 0
    linear_elements: int = 0
    sets: int = 0  # address sets in place of prefixes

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, it.name)} {it.name.replace('_', ' ')}" for it in fields(self))

    def check(self) -> None:
        """Enough passed, and every kind of packet was there."""
        assert self.passed >= 0.3 * self.packets, self
        assert min(self.denied, self.rejected, self.answered, self.replies, self.rejudged, self.cut, self.sets) > 0, (
            self
        )
        assert self.inside_borders + self.outside_borders + self.nowhere == self.borders, self
        assert min(self.inside_borders, self.outside_borders) > self.nowhere, self
        assert min(self.hash_elements, self.interval_elements, self.linear_elements) > 0, self
        assert self.rules_that_decided + self.unreachable + self.disabled == self.rules, self

    def add_shapes(self, form: Form) -> None:
        """Count by what the elements of a compiled policy are found."""
        for step in (step for table in form.tables for step in table.steps):
            elements = len(list(step.elements()))
            self.hash_elements += elements * isinstance(step, Hash)
            self.interval_elements += elements * isinstance(step, Ranges)
            self.linear_elements += elements * isinstance(step, Linear)
