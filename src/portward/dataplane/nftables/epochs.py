"""Epochs: the numbers in a connection's mark that say under which verdicts it was accepted.

They live in the bits of ``mask`` but the highest, from 1 up, and come round. 0 means not accepted and is never used.
Before a half of the numbers is entered, what still bears one of it is to be marked 0 (``to_clear``); meanwhile the
numbers of the other half alone are written, so none can slip in behind the sweep. The highest bit is set beside the
number of what is judged packet by packet: errors about it find the number, the fast path does not.
"""

from typing import NamedTuple

import msgspec


class MarkFilter(NamedTuple):
    """Marks for which ``mark & mask == value``."""

    value: int
    mask: int


class Epochs(msgspec.Struct, frozen=True):
    """The numbers that fit into ``mask``: at least 4 adjacent bits of the 32 of a mark."""

    mask: int

    @property
    def _shift(self) -> int:
        return (self.mask & -self.mask).bit_length() - 1

    @property
    def apart(self) -> int:
        """The bit of what is judged packet by packet."""
        return 1 << self.mask.bit_length() - 1

    @property
    def numbers(self) -> int:
        """The bits of the number."""
        return self.mask & ~self.apart

    @property
    def last(self) -> int:
        """The largest epoch."""
        return self.numbers >> self._shift

    @property
    def _upper(self) -> int:
        """The first epoch of the upper half."""
        return (self.last + 1) // 2

    @property
    def others(self) -> int:
        """The bits of a mark that belong to others."""
        return ~self.mask & 0xFFFFFFFF

    def mark(self, epoch: int) -> int:
        """The bits that say ``epoch``; the rest are 0."""
        return epoch << self._shift

    def marks(self, epoch: int) -> frozenset[int]:
        """Our bits of what was accepted under ``epoch``: as a connection, or packet by packet."""
        return frozenset({self.mark(epoch), self.mark(epoch) | self.apart})

    def after(self, epoch: int) -> int:
        """The epoch that follows."""
        return epoch + 1 if epoch < self.last else 1

    def to_clear(self, epoch: int) -> MarkFilter | None:
        """Which marks must be cleared before ``epoch`` may be used, or ``None``."""
        top = self.mark(self._upper)
        if epoch == self._upper:
            return MarkFilter(top, top)
        return MarkFilter(0, top) if epoch == 1 else None
