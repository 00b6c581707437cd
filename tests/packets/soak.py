"""How long tests that draw their cases go on: a fixed number from a fixed seed, or, in a soak, until time is over.

``PORTWARD_SOAK_MINUTES`` makes a soak: each test marked ``soak`` then takes that long, from a seed of its own, which it
prints at its beginning. ``make soak`` does so.
"""

import os
import secrets
import time
from collections.abc import Iterator

_SEED = 20260
_minutes = float(os.environ.get("PORTWARD_SOAK_MINUTES", 0))


def seed() -> int:
    """Where a test's cases come from; ``PORTWARD_SOAK_SEED`` repeats a soak."""
    if not _minutes:
        return _SEED
    chosen = int(os.environ.get("PORTWARD_SOAK_SEED", 0)) or secrets.randbits(31)
    print(f"\nPORTWARD_SOAK_SEED={chosen}", flush=True)
    return chosen


def rounds(usually: int) -> Iterator[int]:
    """0, 1, 2 and so on: ``usually`` of them, or as many as there is time for."""
    number, end = 0, time.monotonic() + 60 * _minutes
    while time.monotonic() < end if _minutes else number < usually:
        yield number
        number += 1
