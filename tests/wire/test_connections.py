"""Connections that are many, or slow: the users' API outlives them."""

import select
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest

from portward.api import connections
from portward.config import Quotas
from wire.conftest import DEADLINE, running, settings
from wire.test_server import Process

HALF = b"POST /v1/state HTTP/1.1\r\nHost: localhost\r\n"


def test_half_sent_requests_of_strangers_leave_the_users_api_alone_and_the_log_short(tmp_path: Path) -> None:
    server = Process(tmp_path, open_files=1024)
    host, _, port = server.listening["agent_api"].rpartition(":")
    strangers: list[socket.socket] = []
    try:
        for _ in range(1100):
            strangers.append(socket.create_connection((host, int(port)), DEADLINE))
            strangers[-1].sendall(HALF)
        with httpx2.Client(trust_env=False, timeout=DEADLINE) as http:
            assert http.get(f"http://{server.listening['api']}/v2.0/ports").status_code == 200
        open_files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        assert server.listening["connections"] < open_files < 1024 // 2
    finally:
        for stranger in strangers:
            stranger.close()
        server.process.kill()
        _, log = server.process.communicate()
    assert len(log.splitlines()) < 10


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTT", b"POST /v2.0/ports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
     b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTT"],
)  # fmt: skip
def test_a_request_that_does_not_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "REQUEST_TIME", 0.3)
    with running(settings(tmp_path)) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as stranger:
            stranger.sendall(sent)
            began = time.monotonic()
            while _read(stranger):
                pass
            assert time.monotonic() - began < 10


@pytest.mark.parametrize(("rules", "requests"), [(20, 500), (7000, 1)])
def test_an_answer_that_nobody_reads_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: int, requests: int
) -> None:
    """More of it than the kernel takes off the server's hands: 4 MB."""
    monkeypatch.setattr(connections, "ANSWER_TIME", 0.3)
    chosen = settings(tmp_path).model_copy(update={"quotas": Quotas(firewall_rule=-1)})
    with running(chosen) as url, socket.socket() as stranger:
        with httpx2.Client(base_url=url, trust_env=False, timeout=DEADLINE) as http:
            for start in range(0, rules, 1000):
                many = [{"name": "x" * 255, "description": "y" * 255}] * min(1000, rules - start)
                assert http.post("/v2.0/fwaas/firewall_rules", json={"firewall_rules": many}).status_code == 201
        host, _, port = url.removeprefix("http://").rpartition(":")
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stranger.connect((host, int(port)))
        stranger.sendall(b"GET /v2.0/fwaas/firewall_rules HTTP/1.1\r\nHost: localhost\r\n\r\n" * requests)
        watched = select.poll()
        watched.register(stranger, 0)
        assert watched.poll(DEADLINE * 1000), "not cut"


def test_a_connection_whose_requests_all_came_in_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_TIME", 0.3)
    with running(settings(tmp_path)) as url:
        client = HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE)
        client.connect()
        client.auto_open = 0
        for _ in range(2):
            client.request("GET", "/v2.0/extensions")
            assert client.getresponse().read()
            time.sleep(0.5)  # the claim is about time that passes
        client.close()


def _read(stranger: socket.socket) -> bytes:
    try:
        return stranger.recv(4096)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("limit", [512, 1024, 4096, 65536])
def test_two_listeners_and_the_database_fit_into_the_open_files(limit: int) -> None:
    room, backlog = connections.share(limit)
    assert room > 0
    assert 2 * (room + backlog) + 60 * 3 < limit


def test_too_few_open_files_stop_the_start() -> None:
    ask = "from portward.api.connections import raise_limit; raise_limit()"
    answer = subprocess.run(
        ["prlimit", "--nofile=256", sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "only 256 open files" in answer.stderr
