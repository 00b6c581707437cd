"""Takes one state after the other, keeps it on disk, has it enforced, and knows when to try again.

The order of each change: the state to disk, then the dataplanes, then the report. It never removes enforcement
because something failed: without a usable state it leaves the host as it is. Used by one thread.
"""

import time
from collections.abc import Callable, Collection

import structlog
from msgspec.structs import replace

from portward.agent.drivers import Drivers, Outcome
from portward.agent.state_file import StateFile, StateFileError
from portward.channel.backoff import Backoff
from portward.model import HostState, Report

#: Seconds between attempts to do what failed: the first, and the longest.
RETRY_SHORTEST, RETRY_LONGEST = 1.0, 30.0

_log = structlog.get_logger(__name__)


class Enforcer:
    """The state of this host, and what became of it.

    Args:
        drivers: what enforces.
        state_file: where the state is kept; held by the caller.
        clock: seconds, monotonic.
        retry: the delays between attempts to do what failed.
    """

    def __init__(
        self,
        drivers: Drivers,
        state_file: StateFile,
        *,
        clock: Callable[[], float] = time.monotonic,
        retry: Backoff | None = None,
    ) -> None:
        self._drivers = drivers
        self._state_file = state_file
        self._clock = clock
        self._retry = retry or Backoff(RETRY_SHORTEST, RETRY_LONGEST)
        self._retry_at: float | None = None
        self._state: HostState | None = None
        self._saved: HostState | None = None
        self._not_saved: str | None = None  # the reason
        self._report: Report | None = None

    def restore(self) -> Report | None:
        """Enforce the state on disk, if there is one that can be trusted; else the host stays as it is."""
        try:
            self._state = self._saved = self._state_file.load()
        except StateFileError as error:
            _log.error(
                "kept_state_unusable", reason=str(error), consequence="the host stays as it is until the API answers"
            )
            return None
        if self._state is None:
            _log.info("no_kept_state", consequence="the host stays as it is until the API answers")
            return None
        return self._enforce(self._state)

    def take(self, state: HostState) -> Report:
        """Enforce ``state`` from now on; what became of it."""
        self._retry_soon()
        self._keep(state)
        self._state = state
        return self._enforce(state)

    def again(self) -> Report | None:
        """Enforce the same state once more, because the host changed or an error may have gone.

        ``None`` when there is no state, or when what became of it is what it was before.
        """
        if self._state is None:
            return None
        before = self._report
        self._keep(self._state)
        report = self._enforce(self._state)
        return None if report == before else report

    def retry_in(self) -> float | None:
        """Seconds until ``again`` is due because something failed; ``None``: nothing did that could heal."""
        return None if self._retry_at is None else max(0.0, self._retry_at - self._clock())

    def watched(self) -> Collection[int]:
        """Descriptors; when one is readable, ``again`` is due."""
        return self._drivers.watched()

    def _keep(self, state: HostState) -> None:
        saved = self._saved
        if saved is not None and replace(saved, generation=state.generation) == state:
            return  # a restart enforces the same
        self._saved = None
        try:
            self._state_file.save(state)
        except StateFileError as error:
            if str(error) != self._not_saved:
                consequence = "a restart enforces nothing new until the API answers; trying again"
                _log.error("state_not_kept", reason=str(error), consequence=consequence)
            self._not_saved = str(error)
            return
        self._saved = state
        if self._not_saved is not None:
            self._not_saved = None
            _log.info("state_kept")

    def _enforce(self, state: HostState) -> Report:
        began = self._clock()
        outcome = self._drivers.apply(state)
        if outcome.report != self._report or not self._failed(outcome):
            self._retry_soon()
        if self._failed(outcome) and self.retry_in() in (None, 0.0):  # else something woke it before its time
            self._retry_at = self._clock() + self._retry.delay()
        if outcome.report != self._report:
            self._say(outcome.report, self._clock() - began)
            self._report = outcome.report
        return outcome.report

    def _failed(self, outcome: Outcome) -> bool:
        """Whether there is something to be tried again."""
        return outcome.may_heal or self._saved is None

    def _retry_soon(self) -> None:
        self._retry_at = None
        self._retry.reset()

    def _say(self, report: Report, seconds: float) -> None:
        known = {port.port_id: port.error for port in self._report.ports} if self._report else {}
        failed = [port for port in report.ports if port.error is not None]
        for port in failed:
            if known.get(port.port_id) != port.error:
                _log.warning("port_not_enforced", port_id=port.port_id, reason=port.error)
        _log.info(
            "enforced",
            generation=report.generation,
            ports=len(report.ports),
            in_error=len(failed),
            milliseconds=round(1000 * seconds, 1),
        )
