"""Numbers that come round."""

import pytest

from portward.dataplane.nftables.epochs import Epochs, MarkFilter


@pytest.mark.parametrize(("mask", "last"), [(0xF, 7), (0xFFFF, 32767), (0xFF00, 127), (0xF0000000, 7)])
def test_epochs_fill_the_mask_and_leave_the_rest_alone(mask: int, last: int) -> None:
    epochs = Epochs(mask)
    assert epochs.last == last
    assert max(epochs.marks(last)) == mask
    assert epochs.mark(1) == mask & -mask
    assert epochs.others ^ mask == 0xFFFFFFFF
    assert epochs.others & mask == 0


def test_they_come_round_to_one_and_never_are_zero() -> None:
    epochs = Epochs(0xF0)
    seen = [1]
    for _ in range(7):
        seen.append(epochs.after(seen[-1]))
    assert seen == [*range(1, 8), 1]


@pytest.mark.parametrize("mask", [0xF, 0xFF00])
def test_every_number_is_cleared_after_its_last_use_and_before_its_next(mask: int) -> None:
    """A number may be used when no connection bears it: simulate one connection a change, never refreshed."""
    epochs = Epochs(mask)
    marks: set[int] = set()
    epoch = 1
    for _ in range(3 * epochs.last):
        which = epochs.to_clear(epoch)
        if which is not None:
            marks = {mark for mark in marks if mark & which.mask != which.value}
        assert epochs.marks(epoch).isdisjoint(marks)
        marks |= epochs.marks(epoch)
        epoch = epochs.after(epoch)


def test_the_epoch_in_force_is_never_cleared() -> None:
    epochs = Epochs(0xF)
    for epoch in range(1, 8):
        which = epochs.to_clear(epochs.after(epoch))
        assert which is None or all(mark & which.mask != which.value for mark in epochs.marks(epoch))
    assert epochs.to_clear(4) == MarkFilter(4, 4)
    assert epochs.to_clear(1) == MarkFilter(0, 4)
