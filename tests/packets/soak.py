"""How long tests that draw their cases go on: a fixed number from a fixed seed, or, in a soak, until time is over.

``PORTWARD_SOAK_MINUTES`` makes a soak: each test marked ``soak`` then takes that long, from a new seed. ``make soak``
does so. Tests print their seed; ``PORTWARD_SOAK_SEED`` repeats one.
"""

import os
import secrets
import time
from collections.abc import Iterator

_SEED = 20260
_minutes = float(os.environ.get("PORTWARD_SOAK_MINUTES", 0))
_seed = int(os.environ.get("PORTWARD_SOAK_SEED", 0)) or (secrets.randbits(31) if _minutes else _SEED)


def seed() -> int:
    """Where the cases of every test of this run come from."""
    return _seed


def rounds(usually: int) -> Iterator[int]:
    """0, 1, 2 and so on: ``usually`` of them, or as many as there is time for."""
    number, end = 0, time.monotonic() + 60 * _minutes
    while time.monotonic() < end if _minutes else number < usually:
        yield number
        number += 1
