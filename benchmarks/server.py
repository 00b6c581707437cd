"""``portward api`` as a process of its own, asked over HTTP by one client that keeps its connection.

Auth mode http_basic, quotas off; everything it writes is in a directory that goes away with it.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import httpx2

from demo.processes import free_port

_USER, _PASSWORD = "bench", "bench"
_START = 30.0  # seconds


class Api:
    """The client."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, auth=(_USER, _PASSWORD), timeout=60.0, trust_env=False)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of the answer.

        Raises:
            httpx2.HTTPStatusError: a refusal.
        """
        answer = self._http.request(method, f"/v2.0/{path}", json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def make(self, kind: str, **attributes: Any) -> str:
        """The id of a new ``firewall_rule``, ``firewall_policy``, ``firewall_group`` or ``port``."""
        path = {"firewall_policy": "fwaas/firewall_policies", "port": "ports"}.get(kind, f"fwaas/{kind}s")
        return str(self.ask("POST", path, {kind: attributes})[kind]["id"])

    def answers(self) -> bool:
        """Whether the API is there."""
        with contextlib.suppress(httpx2.TransportError):
            return self._http.get("/").is_success
        return False

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()


def timed(call: Callable[[], Any]) -> float:
    """What ``call`` takes, in milliseconds."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


@contextmanager
def running(database_url: str) -> Iterator[Api]:
    """The API on ``database_url``, empty before.

    Raises:
        RuntimeError: it does not answer; the message ends with its log.
    """
    with tempfile.TemporaryDirectory(prefix="pw-bench-") as name:
        directory = Path(name)
        users = directory / "users"
        password_hash = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(12)).decode()
        users.write_text(f"{_USER}:{password_hash}:bench:admin\n")
        users.chmod(0o600)
        api, agents = free_port(), free_port()
        config = directory / "portward.toml"
        config.write_text(
            f'[api]\nlisten = "127.0.0.1:{api}"\n[agent_api]\nlisten = "127.0.0.1:{agents}"\n'
            f"[database]\nurl = {json.dumps(database_url)}\n"
            f'[auth]\nmode = "http_basic"\nusers_file = "{users}"\n'
            "[quotas]\nfirewall_rule = -1\nfirewall_policy = -1\nfirewall_group = -1\n"
        )
        with (directory / "log").open("wb") as log:
            command = [sys.executable, "-m", "portward", "--config", str(config), "api"]
            environment = {key: value for key, value in os.environ.items() if not key.startswith("PORTWARD_")}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            client = Api(f"http://127.0.0.1:{api}")
            try:
                deadline = time.monotonic() + _START
                while not client.answers():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"portward api does not answer:\n{(directory / 'log').read_text()[-4000:]}")
                    time.sleep(0.05)
                yield client
            finally:
                client.close()
                process.terminate()
                process.wait(20)
