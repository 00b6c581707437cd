"""The agents' listener over real HTTP, on a database of its own, and what writes to that database."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import httpx2
import uvicorn
from sqlalchemy import update
from sqlalchemy.orm import Session

from portward.api.agent_app import create_agent_app
from portward.api.news import News
from portward.channel.messages import REPORT_PATH, STATE_PATH, ReportMessage, StateAnswer, StateRequest, decode, encode
from portward.model import PortReport
from portward.service import agents
from portward.store import Store, raise_generation, tables, upgrade


def now() -> datetime:
    """The time as the database keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds, at most 10 seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.002)


class AgentServer:
    """``url`` serves the database of ``store``; what ``change`` writes is learnt as if another replica had written."""

    def __init__(self, directory: Path) -> None:
        database = f"sqlite:///{directory}/portward.db"
        upgrade(database)
        self.store = Store(database)
        self.url = ""
        self.held: list[object] = []  # requests that the listener has not answered
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    def start(self) -> None:
        """Listen, on the port of last time if there was one."""
        news = News(self.store.generation)
        app = create_agent_app(self.store, news)

        async def counted(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
            self.held.append(scope)
            try:
                await app(scope, receive, send)
            finally:
                self.held.remove(scope)

        config = uvicorn.Config(
            counted, host="127.0.0.1", port=self._port, log_config=None, lifespan="off", timeout_graceful_shutdown=2
        )
        server = self._server = uvicorn.Server(config)

        async def serve() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(news.run)
                await server.serve()
                news.close()

        self._thread = threading.Thread(target=anyio.run, args=(serve,))
        self._thread.start()
        eventually(lambda: server.started)
        self._port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        """Stop listening; the database stays."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._server = None

    def add_host(self, name: str) -> str:
        """The token of a new host."""
        return self.store.writing(lambda session: agents.add_host(session, name, now()))

    def revoke(self, name: str) -> None:
        """Make its token worthless."""
        self.store.writing(lambda session: agents.revoke(session, name, now()))

    def change(self, call: Callable[[Session], object]) -> int:
        """Run ``call`` in a transaction that raises the generation, of all groups too; the new generation."""

        def both(session: Session) -> int:
            generation = raise_generation(session)
            call(session)
            session.execute(update(tables.FirewallGroup).values(generation=generation, changed_at=now()))
            session.execute(
                update(tables.FirewallPolicy).where(tables.FirewallPolicy.version == 0).values(version=generation)
            )
            return generation

        return self.store.writing(both)

    def read(self, call: Callable[[Session], object]) -> object:
        """What ``call`` returns."""
        return self.store.reading(call)


@contextmanager
def agent_server(directory: Path) -> Iterator[AgentServer]:
    """A server that is stopped, and its database closed, at the end of the block."""
    server = AgentServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.store.close()


class Host:
    """A host that speaks the messages by hand."""

    def __init__(self, server: AgentServer, token: str) -> None:
        self._http = httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)

    def post(self, path: str, content: bytes) -> httpx2.Response:
        """The answer to any bytes."""
        return self._http.post(path, content=content, timeout=20)

    def ask(self, request: StateRequest | None = None, *, wait: float = 0.0) -> StateAnswer:
        """The answer to a request for the state."""
        asked = request or StateRequest()
        response = self.post(STATE_PATH, encode(StateRequest(**{**_fields(asked), "wait": wait})))
        assert response.status_code == 200, response.text
        return decode(response.content, StateAnswer)

    def report(self, generation: int, ports: dict[str, str | None]) -> httpx2.Response:
        """The answer to a report."""
        lines = tuple(PortReport(port_id=port_id, error=error) for port_id, error in ports.items())
        return self.post(REPORT_PATH, encode(ReportMessage(generation=generation, ports=lines)))

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()


def _fields(request: StateRequest) -> dict[str, object]:
    return {name: getattr(request, name) for name in request.__struct_fields__}
