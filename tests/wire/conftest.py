"""A whole server on loopback, for tests that know it over HTTP alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

import anyio
import httpx2
import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from portward.api.server import serve_until
from portward.config import API, AgentAPI, Database, DefaultFirewallGroup, Settings
from portward.store import Store, now
from portward.store.tables import Base, State

DEADLINE = 20.0
UNKNOWN = "00000000-0000-4000-8000-000000000000"


class Api:
    """A client of the API that keeps its tests short."""

    def __init__(self, url: str, user: tuple[str, str] | None = None) -> None:
        self.url = url
        self.http = httpx2.Client(base_url=url, auth=user, timeout=DEADLINE, trust_env=False)

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        return self.http.request(method, path, **arguments)

    def post(self, kind: str, **attributes: Any) -> httpx2.Response:
        return self.request("POST", path(kind), json={kind: attributes})

    def put(self, kind: str, id_: str, **attributes: Any) -> httpx2.Response:
        return self.request("PUT", f"{path(kind)}/{id_}", json={kind: attributes})

    def get(self, kind: str, id_: str, **query: Any) -> httpx2.Response:
        return self.request("GET", f"{path(kind)}/{id_}", params=query)

    def delete(self, kind: str, id_: str) -> httpx2.Response:
        return self.request("DELETE", f"{path(kind)}/{id_}")

    def make(self, kind: str, **attributes: Any) -> dict[str, Any]:
        answer = self.post(kind, **attributes)
        assert answer.status_code == 201, answer.text
        return dict(answer.json()[kind])

    def change(self, kind: str, id_: str, **attributes: Any) -> dict[str, Any]:
        answer = self.put(kind, id_, **attributes)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()[kind])

    def show(self, kind: str, id_: str, **query: Any) -> dict[str, Any]:
        answer = self.get(kind, id_, **query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()[kind])

    def index(self, kind: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.request("GET", path(kind), params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()[plural(kind)])

    def insert(self, policy: str, **body: Any) -> httpx2.Response:
        return self.request("PUT", f"{path('firewall_policy')}/{policy}/insert_rule", json=body)

    def remove(self, policy: str, **body: Any) -> httpx2.Response:
        return self.request("PUT", f"{path('firewall_policy')}/{policy}/remove_rule", json=body)

    def router_port(self, **attributes: Any) -> dict[str, Any]:
        values = {"device_owner": "network:router_interface", "device_id": UNKNOWN, "binding:host_id": "h1"}
        return self.make("port", **(values | attributes))

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """All that is stored, to see whether it changed."""
        return {kind: self.index(kind) for kind in ("port", "firewall_rule", "firewall_policy", "firewall_group")}


def plural(kind: str) -> str:
    return "firewall_policies" if kind == "firewall_policy" else f"{kind}s"


def path(kind: str) -> str:
    neutrons = {"port": "/v2.0/ports", "address_group": "/v2.0/address-groups"}
    return neutrons.get(kind) or f"/v2.0/fwaas/{plural(kind)}"


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """A server with ``settings``; yields the API's URL."""
    with serving(settings) as (url, _):
        yield url


@contextmanager
def serving(settings: Settings, clock: Callable[[], datetime] = now) -> Iterator[tuple[str, str]]:
    """A server with ``settings`` at the time of ``clock``; yields the URLs of the API and of the agents' listener."""
    ready, addresses, stops = Event(), [], []
    failures: list[BaseException] = []

    def on_ready(*listeners: tuple[str, int]) -> None:
        addresses.extend(f"http://{host}:{port}" for host, port in listeners)
        ready.set()

    async def main() -> None:
        stop = anyio.Event()
        loop = anyio.lowlevel.current_token()
        stops.append(lambda: anyio.from_thread.run_sync(stop.set, token=loop))
        await serve_until(stop, settings, on_ready=on_ready, clock=clock)

    def run() -> None:
        try:
            anyio.run(main)
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = Thread(target=run)
    thread.start()
    assert ready.wait(DEADLINE)
    if failures:
        thread.join()
        raise failures[0]
    try:
        yield addresses[0], addresses[1]
    finally:
        stops[0]()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert failures == []


def settings(directory: Path, **api: Any) -> Settings:
    return Settings(
        api=API(listen="127.0.0.1:0", **api),
        agent_api=AgentAPI(listen="127.0.0.1:0"),
        database=Database(url=f"sqlite:///{directory}/portward.db"),
        default_firewall_group=DefaultFirewallGroup(enabled=False),
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    """One server for all tests that need no other, and its database."""
    chosen = settings(tmp_path_factory.mktemp("api"))
    with running(chosen) as url:
        store = Store(chosen.database.url)
        yield url, store
        store.close()


@pytest.fixture
def api(server: tuple[str, Store]) -> Iterator[Api]:
    """A client of a server that holds nothing yet."""
    url, store = server
    store.writing(forget_everything)
    client = Api(url)
    yield client
    client.http.close()


def forget_everything(session: Session) -> None:
    """Leave nothing in the database but its generation."""
    for table in reversed(Base.metadata.sorted_tables):
        if table is not State.__table__:
            session.execute(delete(table))
