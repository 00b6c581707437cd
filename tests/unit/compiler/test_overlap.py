import random

from portward.compiler.form import Box
from portward.compiler.overlap import as_members, places, reachable, relations

ANY = (0, 99)


def box(*intervals: tuple[int, int]) -> Box:
    source, destination = [*intervals, ANY][:2]
    return (source, destination, ANY, ANY, ANY)


def reachable_places(*boxes: Box) -> list[int]:
    return reachable(boxes, *relations(boxes))


def test_members_are_the_places_they_were_made_from() -> None:
    assert list(places(as_members([0, 7, 8, 64]))) == [0, 7, 8, 64]


def test_boxes_overlap_that_share_a_value_in_every_field() -> None:
    boxes = (box((0, 5)), box((5, 9)), box((6, 7), (0, 3)), box((6, 7), (4, 9)))
    assert [list(places(found)) for found in relations(boxes)[0]] == [[], [0], [1], [1]]


def test_overlaps_are_those_that_a_comparison_of_all_pairs_finds() -> None:
    chance = random.Random(7)
    ends = [sorted((chance.randrange(12), chance.randrange(12))) for _ in range(300)]
    boxes = [box((a[0], a[1]), (b[0], b[1])) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    for place, found in enumerate(relations(boxes)[0]):
        met = [
            other
            for other in range(place)
            if all(a[0] <= b[1] and b[0] <= a[1] for a, b in zip(boxes[place], boxes[other], strict=True))
        ]
        assert list(places(found)) == met


def test_a_box_inside_an_earlier_one_is_never_first() -> None:
    assert reachable_places(box((0, 9)), box((0, 9)), box((1, 8), (3, 3)), box((1, 10))) == [0, 3]


def test_a_box_that_holds_earlier_ones_stays() -> None:
    assert reachable_places(box((1, 1)), box((0, 9))) == [0, 1]


def test_a_box_that_several_earlier_ones_cover_together_is_never_first() -> None:
    assert reachable_places(box((0, 4)), box((5, 9)), box((0, 9))) == [0, 1]
    assert reachable_places(box((0, 4), (0, 9)), box((5, 9), (2, 5)), box((1, 9), (3, 4))) == [0, 1]


def test_a_box_with_a_gap_of_one_value_in_its_cover_stays() -> None:
    assert reachable_places(box((0, 4)), box((6, 9)), box((0, 9))) == [0, 1, 2]
    assert reachable_places(box((0, 4)), box((5, 8)), box((0, 9))) == [0, 1, 2]
    assert reachable_places(box((1, 4)), box((5, 9)), box((0, 9))) == [0, 1, 2]
    assert reachable_places(box((0, 4), (0, 9)), box((5, 9), (3, 5)), box((1, 9), (2, 4))) == [0, 1, 2]


def test_the_search_for_common_cover_ends_when_many_overlap() -> None:
    pieces = [box((place, place)) for place in range(100)]
    assert reachable_places(*pieces, box(ANY)) == list(range(101))
