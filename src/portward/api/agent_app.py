"""The agents' own listener: a host asks for its state and reports what became of it, with its own token.

A waiting agent costs a task and its socket, no thread and no database connection, also while others are changed: one
read says whom a change concerns. Whatever the waiting ends with, the token and the state are read anew, so a token
that was revoked meanwhile gets 401. Refused here: deciding what a host is told (``service.answers``) or what a report
changes (``service.agents``). Nothing of a token is ever logged.
"""

import math
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from portward.api.health import Handlers
from portward.api.news import News
from portward.channel.messages import (
    COUNTERS_PATH,
    MESSAGE_VERSION,
    REPORT_PATH,
    STATE_PATH,
    CountersMessage,
    MalformedMessage,
    ReportMessage,
    StateRequest,
    decode,
)
from portward.model import PortwardError, Report
from portward.service.agents import ForeignPorts, InvalidToken, authenticate, record_poll, record_report
from portward.service.answers import Answer, Bodies, answer
from portward.service.counters import record_counters
from portward.service.hosts import NO_MARK, Mark, marks
from portward.store import Store, now

#: Bytes of a request at most; a report about 1,000 ports, each with an error, has about 200,000.
MAX_BODY = 8 * 1024 * 1024
#: Seconds that a request is held at most, whatever it asks for.
MAX_WAIT = 60.0
#: Seconds between two notes in the database that a host still asks.
_POLL_NOTED_EVERY = 10.0
#: Worker threads, apart from those of the users' API: a change that wakes all agents must not make users wait.
_THREADS = 8

_log = structlog.get_logger(__name__)
_Message = TypeVar("_Message", StateRequest, ReportMessage, CountersMessage)
_Result = TypeVar("_Result")


def create_agent_app(
    store: Store, news: News, *, now: Callable[[], datetime] = now, unasked: Handlers = MappingProxyType({})
) -> Starlette:
    """The listener. ``news`` must be running (``News.run``) in the event loop that serves it.

    ``now`` tells the time in UTC without a zone; ``unasked`` are paths that anybody may read.
    """
    listener = _Listener(store, news, now)
    return Starlette(
        routes=[
            Route(STATE_PATH, listener.state, methods=["POST"]),
            Route(REPORT_PATH, listener.report, methods=["POST"]),
            Route(COUNTERS_PATH, listener.counters, methods=["POST"]),
            *(Route(path, handler, methods=["GET"]) for path, handler in unasked.items()),
        ],
        exception_handlers={
            HTTPException: _refusal,
            PortwardError: _failure,
            DatabaseError: _failure,
            ClientDisconnect: _left,
        },
    )


class _Listener:
    def __init__(self, store: Store, news: News, now: Callable[[], datetime]) -> None:
        self._store = store
        self._news = news
        self._now = now
        self._bodies = Bodies()
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._reading_marks = anyio.Lock()
        self._marks_read = -math.inf
        self._marks: tuple[int, dict[str, Mark]] = (0, {})
        self._noted: dict[str, float] = {}  # host -> when its asking was last written down

    async def state(self, request: Request) -> Response:
        """Answer when there is news for the host, or when it has waited as long as it wanted."""
        token = _token(request)
        host = await self._in_thread(self._authenticate, token)
        asked = await _message(request, StateRequest)
        await self._note_poll(host)
        deadline = anyio.current_time() + min(max(asked.wait, 0.0), MAX_WAIT)
        waiting = True
        while True:
            found = await self._in_thread(self._look, token, asked)
            if found.is_news or not waiting:
                return Response(found.content, media_type="application/json")
            waiting = await self._wait(host, found, deadline)

    async def report(self, request: Request) -> Response:
        """Store a report; it is in the database when the answer goes out."""
        host = await self._in_thread(self._authenticate, _token(request))
        message = await _message(request, ReportMessage)
        report = Report(generation=message.generation, ports=message.ports)
        try:
            await self._in_thread(self._write, partial(record_report, host=host, report=report))
        except ForeignPorts as error:
            _log.warning("report_refused", host=host, reason=str(error))
            raise HTTPException(403, str(error)) from error
        return JSONResponse({})

    async def counters(self, request: Request) -> Response:
        """Store how often rules decided."""
        host = await self._in_thread(self._authenticate, _token(request))
        message = await _message(request, CountersMessage)
        await self._in_thread(self._write, partial(record_counters, host=host, totals=message.rules))
        return JSONResponse({})

    async def _wait(self, host: str, found: Answer, deadline: float) -> bool:
        """Whether there is something new for ``host`` before ``deadline``."""
        generation = found.generation
        while await self._news.wait_after(generation, deadline - anyio.current_time()):
            seen, of_hosts = await self._marks_now()
            if of_hosts.get(host, NO_MARK) != found.mark:
                return anyio.current_time() < deadline
            generation = max(generation, seen)
        return False

    async def _marks_now(self) -> tuple[int, dict[str, Mark]]:
        """What ``hosts.marks`` says now or later: read once for many who are woken together."""
        asked = anyio.current_time()
        async with self._reading_marks:
            if self._marks_read < asked:
                began = anyio.current_time()
                self._marks = await self._in_thread(self._store.reading, marks)
                self._marks_read = began
            return self._marks

    async def _note_poll(self, host: str) -> None:
        clock = time.monotonic()
        if clock - self._noted.get(host, -_POLL_NOTED_EVERY) >= _POLL_NOTED_EVERY:
            self._noted[host] = clock
            await self._in_thread(self._write, partial(record_poll, host=host, now=self._now()))

    async def _in_thread(self, function: Callable[..., _Result], *args: object) -> _Result:
        try:
            return await anyio.to_thread.run_sync(partial(function, *args), limiter=self._threads)
        except InvalidToken as error:
            raise HTTPException(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from error

    def _authenticate(self, token: str) -> str:
        return self._store.reading(partial(authenticate, token=token))

    def _look(self, token: str, asked: StateRequest) -> Answer:
        with self._store.read() as session:
            return answer(session, self._bodies, authenticate(session, token), asked)

    def _write(self, call: Callable[[Session], None]) -> None:
        self._store.writing(call, ordered=False)


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, "give the host's token as a Bearer token", headers={"WWW-Authenticate": "Bearer"})
    return token


async def _message(request: Request, kind: type[_Message]) -> _Message:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            raise HTTPException(413, f"a message has at most {MAX_BODY} bytes")
    try:
        message = decode(bytes(content), kind)
    except MalformedMessage as error:
        raise HTTPException(400, str(error)) from error
    if message.version > MESSAGE_VERSION:
        raise HTTPException(400, f"messages of version {message.version} are newer than this API: upgrade it first")
    return message


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    """The database fails, or holds what no host can enforce. The hosts go on with what they have."""
    _log.error("agent_not_served", path=request.url.path, reason=str(error))
    said = str(error) if isinstance(error, PortwardError) else "the database failed; see the server's log"
    return JSONResponse({"error": said}, 503)


async def _left(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read an answer."""
    return Response(status_code=400)
