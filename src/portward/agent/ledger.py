"""How often each rule decided on this host, kept over changes, restarts and the death of the process.

A dataplane reads what its places (say, versions of a list) have counted so far; what is new since the last reading of
a place is added to the rule's total. So a reading may come again, and none that is missing is lost for ever. Totals
and last readings are one file, replaced as a whole; what is read of places about to be removed is appended to a
journal in between. Numbers are lost only with the disk, and with a whole machine that fails, those since the last
``save``. It refuses to stand in the way: a disk that fails is logged, and counting goes on in memory.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from portward.channel.messages import MalformedMessage, Total, decode, encode
from portward.dataplane.protocol import Count, Reading

_log = structlog.get_logger(__name__)
_NONE = Count(0, 0)
#: Seconds after which a place that is not read any more is forgotten: its namespace is gone.
_FORGOTTEN_AFTER = 24 * 3600.0


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The file. Only what is above zero is kept of readings."""

    number: int  # grows; lines of the journal say after which they were written
    totals: dict[str, Total]
    places: dict[str, dict[str, Count]]


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the journal."""

    number: int
    at: datetime
    readings: tuple[Reading, ...]


class Ledger:
    """``counters.json`` and its journal in ``directory``, which is there and used by nobody else.

    Args:
        directory: where the agent keeps its state.
        now: the time, in UTC.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        directory: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = directory / "counters.json"
        self._journal = directory / "counters.journal"
        self._now = now
        self._clock = clock
        self._number = 0
        self._totals: dict[str, Total] = {}
        self._places: dict[str, dict[str, Count]] = {}
        self._read_at: dict[str, float] = {}
        self._failing = False

    def load(self) -> None:
        """Go on from what is on disk. What is damaged there is not used, and counting begins anew."""
        try:
            kept = decode(self._path.read_bytes(), _Kept)
            self._number, self._totals, self._places = kept.number, dict(kept.totals), dict(kept.places)
        except FileNotFoundError:
            pass
        except (OSError, MalformedMessage) as error:
            _log.error("counters_unusable", reason=str(error), consequence="rules are counted from zero")
        with contextlib.suppress(FileNotFoundError):
            for encoded in self._journal.read_bytes().split(b"\n"):
                # The last one may be torn, by death: then what it was about was not removed, and will be read again.
                with contextlib.suppress(MalformedMessage):
                    line = decode(encoded, _Line)
                    if line.number == self._number:
                        self._add(line.readings, line.at)
        self._read_at = dict.fromkeys(self._places, self._clock())

    def keep(self, readings: Collection[Reading]) -> None:
        """See ``dataplane.protocol.Ledger``."""
        at = self._now()
        self._add(readings, at)
        line = b"\n" + encode(_Line(number=self._number, at=at, readings=tuple(map(_above_zero, readings))))
        with self._writing():
            fd = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "wb") as file:
                file.write(line)

    def forget(self, readings: Collection[Reading]) -> None:
        """See ``dataplane.protocol.Ledger``."""
        for reading in readings:
            self._places.pop(reading.place, None)
            self._read_at.pop(reading.place, None)

    def add(self, readings: Iterable[Reading]) -> None:
        """Add what is new in ``readings``, of places that stay."""
        self._add(readings, self._now())
        for place, read_at in list(self._read_at.items()):
            if self._clock() - read_at > _FORGOTTEN_AFTER:
                del self._places[place], self._read_at[place]

    def count(self, rule_ids: Collection[str]) -> None:
        """Count these rules from now on, if they are not counted yet, and no others."""
        now = self._now()
        self._totals = {
            rule_id: self._totals.get(rule_id) or Total(packets=0, bytes=0, since=now, last=None)
            for rule_id in rule_ids
        }

    def save(self) -> bool:
        """Write all of it to disk; was that possible?"""
        kept = _Kept(number=self._number + 1, totals=self._totals, places=self._places)
        new = self._path.with_suffix(".new")
        with self._writing():
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "wb") as file:
                file.write(encode(kept))
                file.flush()
                os.fsync(fd)
            new.rename(self._path)
            self._number = kept.number
            self._journal.unlink(missing_ok=True)
            return True
        return False

    def totals(self) -> dict[str, Total]:
        """The total of each rule that is counted, by its id."""
        return dict(self._totals)

    def remove(self) -> None:
        """Forget everything, on disk too."""
        self._number, self._totals, self._places, self._read_at = 0, {}, {}, {}
        for path in (self._path, self._path.with_suffix(".new"), self._journal):
            path.unlink(missing_ok=True)

    def _add(self, readings: Iterable[Reading], at: datetime) -> None:
        for reading in readings:
            before = self._places.get(reading.place, {})
            for rule_id, count in reading.counts.items():
                known = before.get(rule_id, _NONE)
                if count.packets > known.packets:
                    total = self._totals.get(rule_id) or Total(packets=0, bytes=0, since=at, last=None)
                    self._totals[rule_id] = Total(
                        packets=total.packets + count.packets - known.packets,
                        bytes=total.bytes + max(0, count.bytes - known.bytes),
                        since=total.since,
                        last=at,
                    )
            self._places[reading.place] = _above_zero(reading).counts
            self._read_at[reading.place] = self._clock()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._failing:
                _log.error("counters_not_kept", reason=str(error), consequence="a restart loses what is counted now")
            self._failing = True
        else:
            self._failing = False


def _above_zero(reading: Reading) -> Reading:
    return Reading(reading.place, {rule_id: count for rule_id, count in reading.counts.items() if count.packets})
