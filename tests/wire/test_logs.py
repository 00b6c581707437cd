"""The log of a server in a process of its own: who asked what, and no secret, whatever goes wrong."""

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import httpx2
import pytest

from wire.conftest import DEADLINE

SERVE = "from portward.api import serve; from portward.config import load; serve(load())"
PASSWORD, TOKEN = "s3cr3t-password", "gAAAAA-s3cr3t-token"
#: Nobody is there: port 1 is tcpmux.
KEYSTONE = f"""
[keystone]
auth_url = "http://127.0.0.1:1/v3"
www_authenticate_uri = "http://127.0.0.1:1/v3"
auth_type = "password"
username = "portward"
password = "{PASSWORD}"
project_name = "service"
user_domain_name = "Default"
project_domain_name = "Default"
http_request_max_retries = 0
"""


class Server:
    """A server with users and passwords, at debug level; ``stop`` returns its log."""

    def __init__(self, directory: Path, mode: str = "http_basic") -> None:
        users = directory / "users"
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        users.write_text(f"alice:{hashed}:p1:member\n")
        users.chmod(0o600)
        config = directory / "portward.toml"
        config.write_text(KEYSTONE if mode == "keystone" else "")
        self.database = directory / "portward.db"
        settings = {
            "API__LISTEN": "127.0.0.1:0",
            "AGENT_API__LISTEN": "127.0.0.1:0",
            "DATABASE__URL": f"sqlite:///{self.database}",
            "AUTH__MODE": mode,
            "AUTH__USERS_FILE": str(users),
            "LOG__LEVEL": "debug",
            "CONFIG": str(config),
        }
        self._log = (directory / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env=os.environ | {f"PORTWARD_{key}": value for key, value in settings.items()},
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._read = (directory / "log").open()
        self._first = ""
        while not self._first.endswith("\n"):
            assert self.process.poll() is None
            self._first += self._read.readline()
        listening = json.loads(self._first)
        self.api, self.agents = f"http://{listening['api']}", f"http://{listening['agent_api']}"

    def stop(self) -> list[dict[str, Any]]:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)
        return [json.loads(line) for line in (self._first + self._read.read()).splitlines()]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()
        self._read.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    yield started
    started.close()


def test_a_request_is_a_line_with_its_id_and_who_asked(server: Server) -> None:
    answer = httpx2.get(f"{server.api}/v2.0/ports", auth=("alice", PASSWORD), trust_env=False)
    assert answer.status_code == 200

    (line,) = [line for line in server.stop() if line["event"] == "request"]

    assert line["request_id"] == answer.headers["x-openstack-request-id"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v2.0/ports", 200)
    assert (line["user"], line["project"]) == ("alice", "p1")


def test_health_and_metrics_are_mentioned_at_debug_alone(server: Server) -> None:
    for path in ("/healthz", "/metrics"):
        assert httpx2.get(f"{server.api}{path}", trust_env=False).status_code == 200

    assert {line["level"] for line in server.stop() if line["event"] == "request"} == {"debug"}


def test_no_secret_is_in_the_log_whatever_goes_wrong(server: Server) -> None:
    basic = base64.b64encode(f"alice:wrong-{PASSWORD}".encode()).decode()
    headers = [
        {"Authorization": f"Basic {basic}"},
        {"Authorization": f"Basic {base64.b64encode(f'alice:{PASSWORD}'.encode()).decode()}"},
        {"Authorization": f"Bearer {TOKEN}", "X-Auth-Token": TOKEN, "X-Service-Token": TOKEN},
        {"Authorization": "Basic " + "=" * 9},
    ]

    def ask_everything() -> set[int]:
        asked = [("GET", f"{server.api}/v2.0/ports"), ("GET", f"{server.api}/nope"),
                 ("POST", f"{server.api}/v2.0/fwaas/firewall_rules"), ("POST", f"{server.agents}/v1/state"),
                 ("POST", f"{server.agents}/v1/report")]  # fmt: skip
        return {
            httpx2.request(method, url, headers=header, content=b"{", trust_env=False).status_code
            for method, url in asked
            for header in headers
        }

    assert {401, 404, 400} <= ask_everything()
    with sqlite3.connect(server.database) as connection:
        for table in ("ports", "hosts", "firewall_rules"):
            connection.execute(f"ALTER TABLE {table} RENAME TO lost_{table}")
    connection.close()
    assert 503 in ask_everything()

    log = server.stop()
    text = json.dumps(log)
    assert any(line["level"] == "error" for line in log), "what failed was said"
    assert PASSWORD not in text
    assert TOKEN not in text
    assert basic not in text
    assert "$2b$" not in text


def test_a_keystone_that_is_away_brings_no_token_and_no_password_into_the_log(tmp_path: Path) -> None:
    server = Server(tmp_path, "keystone")
    try:
        header = {"X-Auth-Token": TOKEN, "X-Service-Token": TOKEN}
        status = httpx2.get(f"{server.api}/v2.0/ports", headers=header, trust_env=False, timeout=60).status_code
        log = server.stop()
    finally:
        server.close()
    assert status in (401, 503)
    assert any(line["level"] in ("warning", "error", "critical") for line in log), "what failed was said"
    assert TOKEN not in json.dumps(log)
    assert PASSWORD not in json.dumps(log)
