"""When counters are read, and what of them the server is told.

They are read every ten seconds by the thread that enforces, when it has nothing better to do, and told by another
one. Nothing is told that a restart could not go on from. What it refuses: to wait, and to say the same twice.
"""

import time
from collections.abc import Callable, Mapping

from portward.agent.drivers import Drivers
from portward.agent.ledger import Ledger
from portward.channel.messages import MAX_COUNTERS, Total
from portward.model import HostState

#: Seconds between two readings, and so how exact ``last`` is.
EVERY = 10.0
#: Seconds after which all is told again: the server's database may have been restored from a backup.
_ALL_AFTER = 3600.0


class Counting:
    """Reads the counters of ``drivers`` into ``ledger``; used by the thread that enforces.

    ``clock`` tells seconds, monotonic.
    """

    def __init__(self, drivers: Drivers, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._drivers = drivers
        self._ledger = ledger
        self._clock = clock
        self._due = clock() + EVERY
        self._covered: list[str] | None = None

    def cover(self, state: HostState) -> None:
        """Count the rules of ``state`` from now on, and no others."""
        self._covered = [rule.id for policy in state.policies for rule in policy.rules]
        self._ledger.count(self._covered)

    def due_in(self) -> float:
        """Seconds until it is time to read."""
        return max(0.0, self._due - self._clock())

    def read(self) -> dict[str, Total] | None:
        """The totals of all rules as they are now; ``None``: they cannot be kept, so nobody may learn of them."""
        self._ledger.add(self._drivers.counters())
        if self._covered is not None:
            self._ledger.count(self._covered)
        kept = self._ledger.save()
        self._due = self._clock() + EVERY
        return self._ledger.totals() if kept else None


class Teller:
    """Tells, by ``send``, what differs from what was told before.

    ``clock`` tells seconds, monotonic.
    """

    def __init__(
        self, send: Callable[[Mapping[str, Total]], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._told: Mapping[str, Total] = {}
        self._all_at = clock()

    def tell(self, totals: Mapping[str, Total]) -> None:
        """Send those of ``totals`` that the server does not know yet.

        Raises:
            ChannelError: as ``send``; the next call sends the same again, if it did not change.
        """
        if self._clock() >= self._all_at:
            self._told = {}
            self._all_at = self._clock() + _ALL_AFTER
        news = [(rule_id, total) for rule_id, total in totals.items() if self._told.get(rule_id) != total]
        for start in range(0, len(news), MAX_COUNTERS):
            self._send(dict(news[start : start + MAX_COUNTERS]))
        self._told = totals
