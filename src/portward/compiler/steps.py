"""An ordered list of overlapping boxes, cut into steps that are one lookup each.

Each step takes boxes that no box left for later precedes and overlaps, so the first step with an element for a packet
holds its first match. Which shape is next is chosen by what it saves over trying its boxes one by one; what no
lookup pays for stays linear. The number of steps, and so the time to find them, is bounded.
"""

from collections import Counter
from collections.abc import Sequence

from portward.compiler.boxes import BITS, Cells, whole
from portward.compiler.cost import crowding, linear_cost, step_cost
from portward.compiler.form import Element, Field, Hash, KeyPart, Linear, Ranges, Step
from portward.compiler.overlap import Places, as_members
from portward.model import IPVersion

#: Steps of one table at most, and those in a row that may fail to pay before the rest is left linear.
_STEPS = 16
_FRUITLESS = 4
_KEYS = 4
#: Elements of one bucket; more of them are left for later steps.
_BUCKET = 8


def cut(
    version: IPVersion, elements: Sequence[Element], earlier: Sequence[Places], kept: Sequence[int], *, chained: int
) -> tuple[tuple[Step, ...], float]:
    """Steps that decide as ``elements`` at the places ``kept`` do in their order, and what they cost together.

    ``earlier`` names for each place the places before it that overlap it. At most ``chained`` steps lead to buckets
    that are more than a verdict.
    """
    rest = _Rest(version, elements, earlier, kept, chained)
    steps: list[Step] = []
    fruitless = 0
    while rest.places and len(steps) < _STEPS and fruitless < _FRUITLESS:
        step, paid = rest.best()
        steps.append(step)
        fruitless = 0 if paid else fruitless + 1
    if rest.places:
        steps.append(Linear(rest.elements(rest.places)))
    joined = _joined(steps)
    return joined, sum(step_cost(version, step) for step in joined)


def _joined(steps: Sequence[Step]) -> tuple[Step, ...]:
    """``steps`` with neighbouring linear ones made one; in the order of rules they are right together."""
    joined: list[Step] = []
    for step in steps:
        last = joined[-1] if joined else None
        if isinstance(step, Linear) and isinstance(last, Linear):
            joined[-1] = Linear(tuple(sorted(last.members + step.members)))
        else:
            joined.append(step)
    return tuple(joined)


class _Rest:
    """The boxes that no step has taken yet."""

    def __init__(
        self,
        version: IPVersion,
        elements: Sequence[Element],
        earlier: Sequence[Places],
        kept: Sequence[int],
        chained: int,
    ) -> None:
        self.version = version
        self.all = elements
        self.earlier = earlier
        self.places = list(kept)
        self.chained = chained
        self.members = as_members(kept)
        self.costs = [linear_cost(version, (element,)) for element in elements]
        self.lengths = [_lengths(version, element) for element in elements]

    def elements(self, places: Sequence[int]) -> tuple[Element, ...]:
        return tuple(self.all[place] for place in places)

    def best(self) -> tuple[Step, bool]:
        """The next step, taken out of the rest, and whether it is a lookup that pays."""
        step, places, paid = self._choice()
        if isinstance(step, Hash):
            self.chained -= not self._is_exact(step)
        taken = set(places)
        self.places = [place for place in self.places if place not in taken]
        self.members = as_members(self.places)
        return step, paid

    def _choice(self) -> tuple[Step, list[int], bool]:
        hashes = list[tuple[Step, list[int]]]()
        for key in self._keys():
            hashed = self._hash(key)
            if hashed is not None:
                step, places = hashed
                if len(places) == len(self.places) and self._is_exact(step) and self._saving(step, places) > 0:
                    return step, places, True  # one lookup without a chain for all that is left: nothing is cheaper
                hashes.append(hashed)
        first = [place for place in self.places if not self.earlier[place] & self.members]
        literal = [place for place in first if not self.all[place].sets]
        choices = [(self._ranges(literal), literal), *hashes]
        savings = [self._saving(step, places) for step, places in choices]
        best = max(range(len(choices)), key=savings.__getitem__)
        if savings[best] > 0:
            return *choices[best], True
        return Linear(self.elements(first)), first, False

    def _is_exact(self, step: Hash) -> bool:
        """Whether every bucket of ``step`` is a verdict."""
        return all(map(Cells(self.version, step.key).is_verdict, step.buckets.values()))

    def _saving(self, step: Step, places: list[int]) -> float:
        return sum([self.costs[place] for place in places]) - step_cost(self.version, step)

    def _ranges(self, places: list[int]) -> Ranges | Linear:
        members = self.elements(places)
        everything = whole(self.version)
        used = [field for field in Field if any(element.box[field] != everything[field] for element in members)]
        if not used:
            return Linear(members)
        order = sorted(used, key=lambda field: (crowding([element.box[field] for element in members]), field))
        return Ranges(tuple(order), members)

    def _keys(self) -> list[tuple[KeyPart, ...]]:
        """A few keys under which many of the rest lie in one bucket each."""
        counts = Counter(self.lengths[place] for place in self.places)
        keys = {tuple(lengths) for lengths, _ in counts.most_common(_KEYS)}
        for field in Field:
            of_field = Counter[int]()
            for lengths, count in counts.items():
                of_field[lengths[field]] += count
            keys |= {
                tuple(length if other is field else 0 for other in Field)
                for length, _ in of_field.most_common(2)
                if length
            }
        fitting = {
            key: sum(
                count for lengths, count in counts.items() if all(a <= b for a, b in zip(key, lengths, strict=True))
            )
            for key in keys
            if any(key)
        }
        chosen = sorted(fitting, key=lambda key: (-fitting[key], -sum(key), key))[:_KEYS]
        return [
            tuple(KeyPart(field, length) for field, length in zip(Field, key, strict=True) if length) for key in chosen
        ]

    def _hash(self, key: tuple[KeyPart, ...]) -> tuple[Hash, list[int]] | None:
        buckets: dict[tuple[int, ...], list[Element]] = {}
        shifts = [(field, BITS[self.version][field] - length) for field, length in key]
        left, taken = self.members, list[int]()
        cells = Cells(self.version, key)
        fitting: dict[tuple[int, ...], bool] = {}
        for place in self.places:
            if self.earlier[place] & left:
                continue
            fits = fitting.get(self.lengths[place])
            if fits is None:
                fits = all(self.lengths[place][field] >= length for field, length in key)
                fitting[self.lengths[place]] = fits
            if not fits:
                continue
            element = self.all[place]
            box = element.box
            if not self.chained and (element.sets or cells.conditions(box)):
                continue
            bucket = buckets.setdefault(tuple([box[field][0] >> shift for field, shift in shifts]), [])
            if len(bucket) < _BUCKET:
                bucket.append(element)
                left ^= 1 << place
                taken.append(place)
        if not taken:
            return None
        return Hash(key, {values: tuple(bucket) for values, bucket in buckets.items()}), taken


def _lengths(version: IPVersion, element: Element) -> tuple[int, ...]:
    """How many leading bits of each field are the same all over the box; of ports and protocols all or none."""
    source, destination, *others = element.box
    address = BITS[version][Field.SOURCE]
    return (
        address - (source[0] ^ source[1]).bit_length(),
        address - (destination[0] ^ destination[1]).bit_length(),
        *(length if first == last else 0 for (first, last), length in zip(others, (16, 16, 8), strict=True)),
    )
