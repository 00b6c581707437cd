"""Numbers that come round."""

import pytest

from portward.dataplane.nftables.epochs import Epochs, MarkFilter


@pytest.mark.parametrize(("mask", "last"), [(0xF, 15), (0xFFFF, 65535), (0xFF00, 255), (0xF0000000, 15)])
def test_epochs_fill_the_mask_and_leave_the_rest_alone(mask: int, last: int) -> None:
    epochs = Epochs(mask)
    assert epochs.last == last
    assert epochs.mark(last) == mask
    assert epochs.mark(1) == mask & -mask
    assert epochs.others ^ mask == 0xFFFFFFFF
    assert epochs.others & mask == 0


def test_they_come_round_to_one_and_never_are_zero() -> None:
    epochs = Epochs(0xF0)
    seen = [1]
    for _ in range(15):
        seen.append(epochs.after(seen[-1]))
    assert seen == [*range(1, 16), 1]


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
        assert epochs.mark(epoch) not in marks
        marks.add(epochs.mark(epoch))
        epoch = epochs.after(epoch)


def test_the_epoch_in_force_is_never_cleared() -> None:
    epochs = Epochs(0xF)
    for epoch in range(1, 16):
        which = epochs.to_clear(epochs.after(epoch))
        assert which is None or epochs.mark(epoch) & which.mask != which.value
    assert epochs.to_clear(8) == MarkFilter(8, 8)
    assert epochs.to_clear(1) == MarkFilter(0, 8)
