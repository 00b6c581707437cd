"""How a server ends, and what it bounds before."""

import json
import signal
import socket
import time
from pathlib import Path

import httpx2
import pytest

from portward.api import connections
from wire.agent_server import eventually
from wire.conftest import DEADLINE, running, settings
from wire.test_server import Process

BODY = json.dumps({"firewall_rule": {"name": "kept"}}).encode()
HEAD = (
    b"POST /v2.0/fwaas/firewall_rules HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
)


def _half(server: Process) -> socket.socket:
    """A connection whose request has begun to run, and not come whole."""
    host, _, port = server.listening["api"].rpartition(":")
    connection = socket.create_connection((host, int(port)), DEADLINE)
    connection.sendall(HEAD + BODY[:5])
    with httpx2.Client(trust_env=False) as http:  # by its answer, the one before has been read
        assert http.get(f"http://{server.listening['api']}/").status_code == 200
    return connection


def _refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_lets_a_request_that_runs_finish(tmp_path: Path, asked: signal.Signals) -> None:
    server = Process(tmp_path)
    try:
        with _half(server) as running_:
            server.process.send_signal(asked)
            eventually(lambda: _refuses(server.listening["api"]))
            running_.sendall(BODY[5:])
            assert running_.recv(100).startswith(b"HTTP/1.1 201")
        assert server.process.wait(DEADLINE) == 0
    finally:
        server.process.kill()
        server.process.communicate()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    server = Process(tmp_path)
    try:
        with _half(server):
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: _refuses(server.listening["api"]))
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(DEADLINE) == -signal.SIGTERM
            assert time.monotonic() - began < 2
    finally:
        server.process.kill()
        server.process.communicate()


def test_systemd_is_told_when_it_serves_and_when_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(DEADLINE)
        systemd.bind(f"{tmp_path}/notify")
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
        with running(settings(tmp_path)):
            assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("size", [connections.MAX_HEADERS + 40_000, 1_000_000])
def test_headers_beyond_their_limit_are_refused_however_fast_they_come(tmp_path: Path, size: int) -> None:
    with running(settings(tmp_path)) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as stranger:
            try:
                stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * size + b"\r\n\r\n")
                answer = stranger.recv(100)
            except (ConnectionResetError, BrokenPipeError):
                answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
        assert httpx2.get(f"{url}/", headers={"X": "x" * 30_000}, trust_env=False).status_code == 200


def test_a_connection_that_is_idle_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE", 0.2)
    with running(settings(tmp_path)) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            began = time.monotonic()
            while idle.recv(4096):
                pass
            assert time.monotonic() - began < 10
