"""Which boxes of an ordered list overlap, and which can never be the first match.

Sets of boxes are integers whose bit ``n`` stands for the box at place ``n``: an operation on two of them costs a
machine word for 64 boxes, so all pairs of 10,000 are compared in tens of milliseconds without a further library.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import or_

from portward.compiler.form import Box, Interval

Places = int

#: Most boxes looked at for one box, and on average for each, to tell that several together cover it.
_COVER_MOST = 32
_COVER_MEAN = 8


def places(members: Places) -> Iterator[int]:
    """The places in ``members``, ascending."""
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest


def as_members(ascending: Sequence[int]) -> Places:
    """The set of the places ``ascending``."""
    digits = bytearray(ascending[-1] // 8 + 1 if ascending else 0)
    for place in ascending:
        digits[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(digits, "little")


def relations(boxes: Sequence[Box]) -> tuple[list[Places], list[Places]]:
    """For each box the places before it whose boxes share a packet with it, and those whose boxes hold all of it."""
    overlapping = [(1 << place) - 1 for place in range(len(boxes))]
    holding = overlapping.copy()
    for column in zip(*boxes, strict=True):
        of = _places_of_values(column)
        if len(of) == 1:
            continue
        begun = _up_to(of, 0, [bound for value in of for bound in value])
        ended = _up_to(of, 1, [value[0] - 1 for value in of] + [value[1] - 1 for value in of])
        meets = {value: begun[value[1]] & ~ended[value[0] - 1] for value in of}
        holds = {value: begun[value[0]] & ~ended[value[1] - 1] for value in of}
        for place, value in enumerate(column):
            overlapping[place] &= meets[value]
            holding[place] &= holds[value]
    return overlapping, holding


def reachable(
    boxes: Sequence[Box], overlapping: Sequence[Places], holding: Sequence[Places], conditional: Places = 0
) -> list[int]:
    """The places of boxes that are not told to be covered by those before them, ``relations`` given.

    Of a ``conditional`` box more than the box is asked, so it helps to cover none.

    What one earlier box covers is always told. What several cover together is told where they differ in one field, as
    long as few overlap it; so a place may stand here that is never the first match, but none is left out that may be.
    """
    left = _COVER_MEAN * len(boxes)
    kept = 0
    for place, box in enumerate(boxes):
        if holding[place]:
            continue
        candidates = overlapping[place] & kept & ~conditional
        count = candidates.bit_count()
        if 1 < count <= min(_COVER_MOST, left):
            left -= count
            if _covered_together(box, [boxes[other] for other in places(candidates)]):
                continue
        kept |= 1 << place
    return list(places(kept))


def _places_of_values(column: Sequence[Interval]) -> dict[Interval, Places]:
    lists: dict[Interval, list[int]] = {}
    for place, value in enumerate(column):
        lists.setdefault(value, []).append(place)
    found = {}
    for value, members in lists.items():
        if len(members) == 1:
            found[value] = 1 << members[0]
            continue
        found[value] = as_members(members)
    return found


def _up_to(of: dict[Interval, Places], bound: int, limits: list[int]) -> dict[int, Places]:
    """For each limit the places whose value's first (``bound`` 0) or last (1) is not above it."""
    ordered = sorted(of, key=lambda value: value[bound])
    sums = list(accumulate((of[value] for value in ordered), or_, initial=0))
    found: dict[int, Places] = {}
    position = 0
    for limit in sorted(set(limits)):
        while position < len(ordered) and ordered[position][bound] <= limit:
            position += 1
        found[limit] = sums[position]
    return found


def _covered_together(box: Box, others: list[Box]) -> bool:
    """Whether those of ``others`` that hold ``box`` in all fields but one hold it together."""
    spans: dict[int, list[Interval]] = {}
    for other in others:
        short = [
            field
            for field, (mine, theirs) in enumerate(zip(box, other, strict=True))
            if not theirs[0] <= mine[0] <= mine[1] <= theirs[1]
        ]
        if len(short) == 1:
            spans.setdefault(short[0], []).append(other[short[0]])
    return any(_covers(intervals, box[field]) for field, intervals in spans.items())


def _covers(intervals: list[Interval], whole: Interval) -> bool:
    reached = whole[0]
    for first, last in sorted(intervals):
        if first > reached:
            return False
        reached = max(reached, last + 1)
    return reached > whole[1]
