"""``/healthz`` and ``/metrics``, on both listeners, for whoever asks: neither says anything about anybody.

What it refuses: to let those who ask wear the database down, or wait for it. However many ask, one question is under
way, in a thread that no request needs, and an answer that takes longer than 2 s is none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from portward.api.metrics import CONTENT_TYPE, Metrics, Reading
from portward.api.news import News
from portward.model import PortwardError
from portward.service.agents import list_hosts
from portward.store import Store
from portward.store.tables import State

#: Seconds that the database may take to answer.
PATIENCE = 2.0
_log = structlog.get_logger(__name__)
_Answer = TypeVar("_Answer")
Handlers = Mapping[str, Callable[[Request], Awaitable[Response]]]


class Unanswered(PortwardError):
    """The database gave no answer, or none in time."""


class Monitor:
    """The two handlers. Made in the event loop that serves them."""

    def __init__(self, store: Store, news: News, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._store = store
        self._news = news
        self._metrics = metrics
        self._health = _Question(store.generation)
        self._reading = _Question(lambda: store.reading(partial(_read, now=now())))

    def handlers(self, *, metrics: bool) -> Handlers:
        """By path; ``metrics`` false leaves ``/metrics`` out."""
        return {"/healthz": self.healthz} | ({"/metrics": self.metrics} if metrics else {})

    async def healthz(self, _request: Request) -> Response:
        """200 when the database answers, 503 when it does not."""
        try:
            await self._health.ask()
        except Unanswered as error:
            return JSONResponse({"status": "unavailable", "reason": str(error)}, 503)
        return JSONResponse({"status": "ok"})

    async def metrics(self, _request: Request) -> Response:
        """What the process counts; without what only the database knows, when that does not answer."""
        try:
            reading = await self._reading.ask()
        except Unanswered:
            reading = None
        shown = self._metrics.show(reading, waiting=self._news.waiting, repeated=self._store.repeated)
        return Response(shown, headers={"Content-Type": CONTENT_TYPE})


class _Question(Generic[_Answer]):
    """``read``, which asks the database something; all who want to know at a time share one answer."""

    def __init__(self, read: Callable[[], _Answer]) -> None:
        self._read = read
        self._thread = anyio.CapacityLimiter(1)
        self._asking: asyncio.Task[_Answer] | None = None
        self._failing = False

    async def ask(self) -> _Answer:
        """The answer.

        Raises:
            Unanswered: there is none within ``PATIENCE``; what is wrong stands in the log, once.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        asked = self._asking
        await asyncio.wait({asked}, timeout=PATIENCE)
        if not asked.done():
            self._note("no answer in time")
            raise Unanswered(f"the database does not answer within {PATIENCE:g} s")
        error = asked.exception()
        if error is not None:
            self._note(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
            raise Unanswered("the database cannot be read; see the server's log") from error
        self._note(None)
        return asked.result()

    async def _ask(self) -> _Answer:
        return await anyio.to_thread.run_sync(self._read, abandon_on_cancel=True, limiter=self._thread)

    def _note(self, reason: str | None) -> None:
        if reason is not None and not self._failing:
            _log.error("database_unreadable", reason=reason)
        elif reason is None and self._failing:
            _log.info("database_readable")
        self._failing = reason is not None


def _read(session: Session, now: datetime) -> Reading:
    hosts = list_hosts(session, now)
    working = [host for host in hosts if host.revoked_at is None]
    silent = sum(host.silent for host in working)
    return Reading(
        generation=session.scalar(select(State.generation)) or 0,
        polling=len(working) - silent,
        silent=silent,
        revoked=len(hosts) - len(working),
    )
