"""Two replicas of the API as real processes on one database, and eight clients of them."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import bcrypt

from concurrency.clients import ADMIN, MEMBERS, USERS, Client
from portward.store import Store

#: Who the eight clients are; every other one is on the other replica.
CLIENTS = (ADMIN, ADMIN, *MEMBERS, *reversed(MEMBERS), *MEMBERS)
_DEADLINE = 30.0  # seconds for a process to start or to stop


class Replica:
    """``portward api``, on a port of loopback that the kernel chose."""

    def __init__(self, directory: Path, name: str, database: str) -> None:
        self.log = directory / f"{name}.log"
        self.config = directory / f"{name}.toml"
        self.config.write_text(
            '[api]\nlisten = "127.0.0.1:0"\n[agent_api]\nlisten = "127.0.0.1:0"\n'
            f'[database]\nurl = "{database}"\n'
            f'[auth]\nmode = "http_basic"\nusers_file = "{directory}/users"\n'
            "[quotas]\nfirewall_rule = -1\nfirewall_policy = -1\nfirewall_group = -1\n"
        )
        self.url = self.agents_url = ""
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("PORTWARD_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("api"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def wait(self) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + _DEADLINE
        while not (told := self.events("listening")):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        self.url, self.agents_url = (f"http://{told[0][key]}" for key in ("api", "agent_api"))

    def stop(self) -> None:
        """End it as systemd would."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log about ``name``."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if f'"{name}"' in line]

    def run(self, *arguments: str) -> None:
        """Run ``portward`` once with this replica's configuration."""
        done = subprocess.run(
            self._command(*arguments), capture_output=True, text=True, env=self._environment, check=False
        )
        assert done.returncode == 0, done.stderr

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "portward", "--config", str(self.config), *arguments]


class Cloud:
    """The replicas, their database, and the clients. ``waits`` tells how often one transaction waited for another."""

    def __init__(self, replicas: list[Replica], store: Store, waits: Callable[[], int]) -> None:
        self.replicas = replicas
        self.store = store
        self.clients = [Client(replicas[number % len(replicas)].url, user) for number, user in enumerate(CLIENTS)]
        self._waits = waits
        self.calls = 0  # those that were compared with the model
        self.slowest = 0.0  # seconds until a host knew what was written through the other replica
        self._waited_before = waits()

    def close(self) -> None:
        """Let go of all connections."""
        for client in self.clients:
            client.close()

    def waited(self) -> int:
        """How often a transaction waited for another one since the replicas run."""
        return self._waits() - self._waited_before

    def repeated(self) -> int:
        """How often a replica lost a transaction to another one, and did it again."""
        return sum(len(replica.events("transaction_repeated")) for replica in self.replicas)


@contextmanager
def cloud(directory: Path, url: str, waits: Callable[[], int], *, replicas: int = 2) -> Iterator[Cloud]:
    """As many replicas on the database ``url``; they are gone at the end of the block."""
    file = directory / "users"
    file.touch(stat.S_IRUSR | stat.S_IWUSR)
    for user in USERS:
        hashed = bcrypt.hashpw(user.name.encode(), bcrypt.gensalt(4)).decode()
        with file.open("a") as users:
            users.write(f"{user.name}:{hashed}:{user.project}:{'admin' if user.is_admin else 'member'}\n")
    with ExitStack() as stack:
        started = []
        for number in range(replicas):
            started.append(Replica(directory, f"replica{number}", url))
            stack.callback(started[-1].stop)
        for replica in started:
            replica.wait()
        store = Store(url)
        stack.callback(store.close)
        made = Cloud(started, store, waits)
        stack.callback(made.close)
        yield made
