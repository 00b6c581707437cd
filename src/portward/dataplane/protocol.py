"""What a dataplane is to the agent: one call that makes the host be as the state says.

Compiler, epochs and connection tracking are a driver's own affair; nothing of them shows here.
"""

from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from portward.model import HostState, PortwardError, Report


class DataplaneError(PortwardError):
    """The host refused what was asked of it; the message is for the owner of the port to read."""


class CleanupFailed(DataplaneError):
    """Something could not be removed from the host; the message says, a line each, what was and what was not."""


class Count(NamedTuple):
    """Decisions: connections or packets, and the bytes of the packets that were decided."""

    packets: int
    bytes: int

    def __add__(self, other: "Count") -> "Count":  # type: ignore[override]
        return Count(self.packets + other.packets, self.bytes + other.bytes)


class Reading(msgspec.Struct, frozen=True):
    """What one place of the host has counted since it was made, by the id of the rule that decided.

    ``place`` is, say, a version of a list in a table. No two places ever have the same name: one that is removed and
    made again has another.
    """

    place: str
    counts: dict[str, Count]


class Ledger(Protocol):
    """Where the counts of places go that are about to be removed."""

    def keep(self, readings: Collection[Reading]) -> None:
        """Add what is new in ``readings``; called before the places are removed, and it does not raise.

        Once it returns, a death of the process loses nothing of it. The same readings may come again.
        """
        ...

    def forget(self, readings: Collection[Reading]) -> None:
        """The places of ``readings`` are removed."""
        ...


class Dataplane(Protocol):
    """A driver. Its methods are called from one thread."""

    def apply(self, state: HostState) -> Report:
        """Enforce ``state``, the whole of it and nothing else, and say port by port what became of it.

        Idempotent, and cheap when nothing changed. Failures of one port or namespace are in the report and
        leave the rest of the host enforced, and there the old enforcement standing; it does not raise for them.
        """
        ...

    def watched(self) -> Collection[int]:
        """File descriptors; when one is readable, something on the host changed: call ``apply`` again."""
        ...

    def unfinished(self) -> bool:
        """Whether ``apply`` left something undone that no port can speak for: call it again after a while."""
        ...

    def counters(self) -> Collection[Reading]:
        """What all places count that enforce something now; what cannot be read is left out, and logged.

        Takes as long as there are rules, some 5 microseconds for each.
        """
        ...

    def cleanup(self) -> tuple[str, ...]:
        """Remove all that this driver ever put on the host; says, a line each, what is unfiltered from now on.

        Raises:
            CleanupFailed: after all that could be removed was.
        """
        ...

    def close(self) -> None:
        """Let go of sockets and threads. What is enforced stays enforced."""
        ...
