"""The process that serves: how it starts, refuses to start, and stops."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

import httpx2
import pytest

from portward.config import API, ConfigurationError, DefaultFirewallGroup
from portward.service.agents import add_host
from portward.store import Store, StoreError
from wire.conftest import DEADLINE, Api, running, settings

SERVE = "from portward.api import serve; from portward.config import load; serve(load())"


class Process:
    """A server in a process of its own, to which ``open_files`` are allowed if that is given."""

    def __init__(self, directory: Path, *, open_files: int | None = None) -> None:
        self.url = f"sqlite:///{directory}/portward.db"
        environment = {
            "PORTWARD_API__LISTEN": "127.0.0.1:0",
            "PORTWARD_AGENT_API__LISTEN": "127.0.0.1:0",
            "PORTWARD_DATABASE__URL": self.url,
        }
        limit = ["prlimit", f"--nofile={open_files}"] if open_files else []
        self.process = subprocess.Popen(
            [*limit, sys.executable, "-c", SERVE], env=os.environ | environment, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.listening = json.loads(self.process.stderr.readline())


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    started = Process(tmp_path)
    yield started
    started.process.kill()
    started.process.communicate()


def test_where_it_listens_is_one_structured_line(process: Process) -> None:
    assert process.listening["event"] == "listening"
    with httpx2.Client(trust_env=False) as http:
        assert http.get(f"http://{process.listening['api']}/").status_code == 200


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_waiting_polls_go_at_once(process: Process, asked: signal.Signals) -> None:
    store = Store(process.url)
    token = store.writing(lambda session: add_host(session, "h1", datetime(2026, 1, 1)))
    store.close()
    url = f"http://{process.listening['agent_api']}/v1/state"
    answers: list[int] = []
    with httpx2.Client(trust_env=False, timeout=60, headers={"Authorization": f"Bearer {token}"}) as http:
        held = http.post(url, json={"wait": 0}).json()
        held = {"generation": held["generation"], "digest": held["digest"], "wait": 60}
        asking = Event()

        def poll() -> None:
            asking.set()
            answers.append(http.post(url, json=held).status_code)

        waiting = Thread(target=poll)
        waiting.start()
        assert asking.wait(DEADLINE)
        http.post(url, json={"wait": 0})  # by its answer, the poll before it is on its way
        process.process.send_signal(asked)
        began = time.monotonic()
        assert process.process.wait(DEADLINE) == 0
        waiting.join(DEADLINE)
    assert answers == [200]
    assert time.monotonic() - began < 3


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with running(settings(tmp_path)) as url:
        api = Api(url)
        rule = api.make("firewall_rule", name="kept")
        api.http.close()
    with running(settings(tmp_path)) as url:
        api = Api(url)
        assert api.index("firewall_rule") == [rule]
        api.http.close()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9696", "firewall.example:9696"])
def test_everybody_is_an_admin_on_loopback_alone(tmp_path: Path, listen: str) -> None:
    chosen = settings(tmp_path).model_copy(update={"api": API(listen=listen)})
    with pytest.raises(ConfigurationError, match="listen on 127"), running(chosen):
        pass
    assert not (tmp_path / "portward.db").exists()


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = settings(tmp_path).model_copy(update={"api": API(listen=f"127.0.0.1:{port}")})
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"), running(chosen):
            pass


def test_a_database_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "portward.db").write_text("a poem, and no database at all" * 100)
    with pytest.raises(StoreError, match="restore a backup"), running(settings(tmp_path)):
        pass


def test_a_database_that_breaks_under_way_is_503_without_a_trace(tmp_path: Path) -> None:
    with running(settings(tmp_path)) as url:
        api = Api(url)
        connection = sqlite3.connect(tmp_path / "portward.db")
        connection.execute("DROP TABLE firewall_rules")
        connection.close()
        answer = api.request("GET", "/v2.0/fwaas/firewall_rules")
        assert answer.status_code == 503
        assert answer.json()["NeutronError"]["type"] == "HTTPServiceUnavailable"
        assert "firewall_rules" not in answer.text
        assert api.make("port"), "what does not need it goes on"
        api.http.close()


def test_a_database_that_becomes_garbage_is_503_to_readers_and_writers(tmp_path: Path) -> None:
    with running(settings(tmp_path)) as url:
        api = Api(url)
        api.make("firewall_rule")
        for file in tmp_path.glob("portward.db*"):
            file.write_bytes(b"a poem, and no database at all" * 5000)
        for answer in (api.request("GET", "/v2.0/fwaas/firewall_rules"), api.post("firewall_rule")):
            assert answer.status_code == 503, answer.text
        api.http.close()


def test_a_database_that_loses_its_state_takes_no_change(tmp_path: Path) -> None:
    with running(settings(tmp_path)) as url:
        api = Api(url)
        with sqlite3.connect(tmp_path / "portward.db") as connection:
            connection.execute("DELETE FROM state")
        connection.close()
        assert api.post("firewall_rule").status_code == 503
        assert api.index("firewall_rule") == []
        api.http.close()


def test_a_damaged_database_is_named_at_the_start(tmp_path: Path) -> None:
    chosen = settings(tmp_path).model_copy(update={"default_firewall_group": DefaultFirewallGroup()})
    with running(chosen):
        pass
    with sqlite3.connect(tmp_path / "portward.db") as connection:
        connection.execute("DROP TABLE ports")
    connection.close()
    with pytest.raises(StoreError, match="restore a backup"), running(chosen):
        pass
