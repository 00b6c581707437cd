"""The agent: one thread asks the API for news, one enforces, one reports, one tells what was counted.

Between them are mailboxes that hold the newest value alone, so a slow dataplane skips the states in between and a
slow API loses old reports, never the last. The enforcing thread is the caller's and the only one that touches
dataplanes and disk. Nothing that the API does, or fails to do, removes enforcement.
"""

import os
import select
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from portward.agent.counting import Counting, Teller
from portward.agent.enforcer import Enforcer
from portward.agent.mailbox import Mailbox
from portward.channel.backoff import Backoff
from portward.channel.client import ChannelError, Refused
from portward.channel.messages import Total
from portward.model import HostState, Report

#: Seconds between attempts to reach the API: the first, and the longest.
RECONNECT_SHORTEST, RECONNECT_LONGEST = 0.1, 5.0
#: Seconds until counters are told again to a server that refused them: it may be of an older release.
COUNTERS_REFUSED = 600.0

_log = structlog.get_logger(__name__)


Counts = dict[str, Total]


class Channel(Protocol):
    """The agent's side of the channel; see ``portward.channel.client.Client``."""

    def poll(self) -> HostState | None:
        """The newest state, or ``None`` when nothing changed for a while."""
        ...

    def report(self, report: Report) -> None:
        """Tell what became of a state."""
        ...

    def count(self, totals: Mapping[str, Total]) -> None:
        """Tell how often rules decided."""
        ...


class Agent:
    """Runs until ``stop``, which any thread or signal handler may call. It closes neither of its parts.

    Args:
        enforcer: what is done with a state.
        channel: where states come from.
        counting: what reads the counters of rules.
        backoff: makes the delays between attempts to reach the API, one for each thread that does.
        ready: called once what is on disk is enforced.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        channel: Channel,
        counting: Counting,
        *,
        backoff: Callable[[], Backoff] = lambda: Backoff(RECONNECT_SHORTEST, RECONNECT_LONGEST),
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._enforcer = enforcer
        self._channel = channel
        self._counting = counting
        self._backoff = backoff
        self._ready = ready
        self._states: Mailbox[HostState] = Mailbox()
        self._reports: Mailbox[Report] = Mailbox()
        self._counts: Mailbox[Counts] = Mailbox()
        self._last_report: Report | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Enforce what is on disk, then whatever the API says, until ``stop``. What is enforced stays enforced."""
        self._enforcer.restore()
        self._ready()
        threads = [
            threading.Thread(target=target, name=f"portward-{name}", daemon=True)
            for name, target in (("poll", self._poll), ("report", self._send_reports), ("count", self._send_counts))
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._stopping.is_set():
                self._turn()
        finally:
            self.stop()
            self._reports.close()
            self._counts.close()

    def stop(self) -> None:
        """Let ``run`` return after what it is doing."""
        self._stopping.set()
        os.eventfd_write(self._wake, 1)

    def _turn(self) -> None:
        """Wait until there is something to do, and do it."""
        changed = self._wait()
        state = self._states.take()
        if state is not None:
            self._tell(self._enforcer.take(state))
            self._counting.cover(state)
        elif changed or self._enforcer.retry_in() == 0.0:
            report = self._enforcer.again()
            if report is not None and self._last_report is not None:
                self._tell(report)
        if self._counting.due_in() == 0.0:
            counts = self._counting.read()
            if counts is not None:
                self._counts.put(counts)

    def _tell(self, report: Report) -> None:
        """Only states of this run are reported: the server knows what it sent, not what was on disk."""
        self._last_report = report
        self._reports.put(report)

    def _wait(self) -> bool:
        """Whether something on the host changed; returns also for a new state, a retry that is due, and ``stop``.

        The set of descriptors is made anew each time: one that a dataplane closed may be another one by now.
        """
        watched = select.poll()
        watched.register(self._wake, select.POLLIN)
        for fd in self._enforcer.watched():
            watched.register(fd, select.POLLIN)
        retry, count = self._enforcer.retry_in(), self._counting.due_in()
        ready = {fd for fd, _ in watched.poll(1000 * (count if retry is None else min(retry, count)))}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        return bool(ready - {self._wake})

    def _poll(self) -> None:
        backoff, line = self._backoff(), _Line()
        while not self._stopping.is_set():
            try:
                state = self._channel.poll()
            except Exception as error:
                if self._stopping.is_set():
                    return
                line.lost(error)
                self._stopping.wait(backoff.delay())
                continue
            line.restored()
            backoff.reset()
            if state is not None:
                self._states.put(state)
                os.eventfd_write(self._wake, 1)
            elif self._last_report is not None:
                # Said again while it is quiet: the server may have lost it, in a restored backup for one.
                self._reports.put_back(self._last_report)

    def _send_reports(self) -> None:
        backoff = self._backoff()
        while (report := self._reports.wait()) is not None:
            try:
                self._channel.report(report)
                backoff.reset()
            except Refused as error:
                _log.warning("report_refused", generation=report.generation, reason=str(error))
            except Exception as error:
                if not isinstance(error, ChannelError):
                    _log.exception("report_failed")
                self._reports.put_back(report)
                if self._stopping.wait(backoff.delay()):
                    return

    def _send_counts(self) -> None:
        """What is not told now is told with the next reading."""
        teller = Teller(self._channel.count)
        while (counts := self._counts.wait()) is not None:
            try:
                teller.tell(counts)
            except Refused as error:
                _log.info("counters_refused", reason=str(error), again_in=COUNTERS_REFUSED)
                if self._stopping.wait(COUNTERS_REFUSED):
                    return
            except ChannelError:
                continue  # the other threads say that the API is lost
            except Exception:
                _log.exception("counters_not_told")


class _Line:
    """Says that the API was lost, and that it is back: once each, however often it is tried."""

    def __init__(self) -> None:
        self._lost: str | None = None

    def lost(self, error: Exception) -> None:
        if self._lost == type(error).__name__:
            return
        self._lost = type(error).__name__
        consequence = "what is enforced stays enforced; asking again"
        if isinstance(error, ChannelError):
            _log.error("api_lost", reason=str(error), consequence=consequence)
        else:
            _log.error("api_lost", reason="internal error", consequence=consequence, exc_info=error)

    def restored(self) -> None:
        if self._lost is not None:
            self._lost = None
            _log.info("api_back")
