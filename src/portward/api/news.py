"""Wakes the waiting long polls when the database's generation grows, whoever raised it.

While anybody waits, one task of this replica reads the generation every 10 ms; after a commit of its own it
reads at once. So a thousand waiting agents cost one short query each 10 ms, and none of them a thread or a
database connection. What it refuses to do: to know what changed. A woken poll reads its own host's state.
"""

from collections.abc import Callable

import anyio
import anyio.to_thread
import structlog

_log = structlog.get_logger(__name__)
#: Seconds before the generation is read again after the database failed.
_PAUSE_AFTER_ERROR = 1.0
#: The generation while nobody looks at it: an old one would be wrong after a backup was restored.
_UNKNOWN = -1


class News:
    """Where long polls wait. Everything but ``read_generation`` runs in the event loop's thread.

    Args:
        read_generation: reads the generation from the database; called in a worker thread.
        interval: seconds between two looks at the database while somebody waits.
    """

    def __init__(self, read_generation: Callable[[], int], *, interval: float = 0.010) -> None:
        self._read_generation = read_generation
        self._interval = interval
        self._known = _UNKNOWN
        self._waiting = 0
        self._closed = False
        self._failing = False
        self._look = anyio.Event()  # set: read the generation now
        self._changed = anyio.Event()  # set, and replaced, when the generation grew

    async def run(self) -> None:
        """Read the generation for those who wait, until ``close``. Exactly one task runs this."""
        while not self._closed:
            if not self._waiting:
                await self._look.wait()
            self._look = anyio.Event()
            pause = self._interval
            try:
                self._learn(await anyio.to_thread.run_sync(self._read_generation))
            except Exception as error:
                self._fail(error)
                pause = _PAUSE_AFTER_ERROR
            else:
                self._recover()
            with anyio.move_on_after(pause):
                await self._look.wait()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting

    def announce(self) -> None:
        """Something was committed here: look at the database at once."""
        if self._waiting:
            self._look.set()

    async def wait_after(self, generation: int, timeout: float) -> bool:
        """Whether the database's generation is seen above ``generation`` within ``timeout`` seconds.

        Returns ``False`` at once when this replica stops.
        """
        with anyio.move_on_after(timeout):
            self._waiting += 1
            if self._waiting == 1:
                self._look.set()
            try:
                while self._known <= generation and not self._closed:
                    await self._changed.wait()
                return self._known > generation
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self._known = _UNKNOWN
        return False

    def close(self) -> None:
        """Let everybody go, and ``run`` end."""
        self._closed = True
        self._look.set()
        self._changed.set()

    def _learn(self, generation: int) -> None:
        if self._waiting and generation != self._known:
            self._known = generation
            self._changed.set()
            if not self._closed:
                self._changed = anyio.Event()

    def _fail(self, error: Exception) -> None:
        """Said once, and not each second for as long as it lasts."""
        if not self._failing:
            self._failing = True
            reason = (str(error).splitlines() or [""])[0]
            _log.error("generation_unreadable", reason=f"{type(error).__name__}: {reason}", consequence="asking again")

    def _recover(self) -> None:
        if self._failing:
            self._failing = False
            _log.info("generation_readable")
