"""How long to wait before the next attempt, so that a thousand agents do not come back in the same instant."""

import random
from collections.abc import Callable


class Backoff:
    """Doubling delays from ``shortest`` to ``longest`` seconds, each shortened at random by up to a half.

    Args:
        shortest: seconds, the first delay before it is shortened.
        longest: seconds; no delay is longer.
        uniform: draws a number between its two arguments.
    """

    def __init__(
        self, shortest: float, longest: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._shortest = shortest
        self._longest = longest
        self._uniform = uniform
        self._next = shortest

    def delay(self) -> float:
        """Seconds to wait now; the next will be about twice as long."""
        delay, self._next = self._next, min(self._longest, 2 * self._next)
        return delay * self._uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: begin with the shortest again."""
        self._next = self._shortest
