"""The API and the agent of the demo, as the processes that they are in real life, on loopback.

Their state is in a directory of their own; nothing of an installed Portward is read or written.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import httpx2

from portward.lab.switch import Switch

HOST = "demo"
_LISTENED_ON = (20000, 32000)
_PROGRAM = Path(sys.executable).with_name("portward")


class ProcessError(Exception):
    """A process of the demo did not do its part; the message ends with what it printed."""


class Portward:
    """``portward api`` and ``portward agent`` with everything they write in ``directory``, but for a ``database``.

    The agent finds virtual machines on ``switch``.
    """

    def __init__(self, directory: Path, database: str | None = None, *, switch: Switch | None = None) -> None:
        self.directory = directory
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTWARD_")}
        api, agents = free_port(), free_port()
        self.url = f"http://127.0.0.1:{api}"
        self.agents_url = f"http://127.0.0.1:{agents}"
        self.config = directory / "portward.toml"
        self.config.write_text(
            f'[api]\nlisten = "127.0.0.1:{api}"\n\n'
            f'[agent_api]\nlisten = "127.0.0.1:{agents}"\n\n'
            f'[database]\nurl = "{database or f"sqlite:///{directory}/portward.db"}"\n\n'
            f'[agent]\nhost = "{HOST}"\napi = "{self.agents_url}"\nstate_dir = "{directory}/agent"\n'
            + ("" if switch is None else f'\n[openvswitch]\nnetns = "{switch.netns}"\nrun_dir = "{switch.run_dir}"\n')
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._http = httpx2.Client(base_url=self.url, timeout=10, trust_env=False)
        self.token = ""

    def start_api(self) -> None:
        """Start the API, and wait until it answers.

        Raises:
            ProcessError: it does not within 20 seconds.
        """
        self._start("api")
        self.wait("api", "answers", lambda: self._http.get("/").is_success, 20)
        if not self.token:
            self.token = self.command("host", "add", HOST, "--format", "json")["token"]

    def start_agent(self) -> None:
        """Start the agent; what it enforces shows in the groups' status."""
        self._start("agent")

    def kill(self, name: str) -> None:
        """``kill -9`` the process ``name`` ("api" or "agent"), and wait until it is gone."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def command(self, *arguments: str) -> Any:
        """What ``portward`` printed for ``arguments``, which ask for JSON.

        Raises:
            ProcessError: it ended with an error.
        """
        done = subprocess.run(
            [_PROGRAM, "--config", self.config, *arguments],
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        if done.returncode:
            raise ProcessError(f"portward {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the API answers.

        Raises:
            ProcessError: an error.
        """
        answer = self._http.request(method, path, json=body)
        if not answer.is_success:
            raise ProcessError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def wait_until_realised(self, seconds: float = 30) -> None:
        """Wait until every group's hosts have done what was asked.

        Raises:
            ProcessError: a group is in ERROR, or still pending after ``seconds``.
        """

        def realised() -> bool:
            groups = self.ask("GET", "/v2.0/fwaas/firewall_groups")["firewall_groups"]
            for group in groups:
                if group["status"] == "ERROR":
                    why = self.ask("GET", f"/v2.0/fwaas/firewall_groups/{group['id']}/realisation")
                    raise ProcessError(f"group {group['name']} is in ERROR: {json.dumps(why)}")
            return not any(group["status"].startswith("PENDING") for group in groups)

        self.wait("agent", "has realised every group", realised, seconds)

    def restart_agent(self) -> None:
        """Start the agent after ``kill``, and wait until it enforces what it kept on disk.

        Raises:
            ProcessError: it does not within 20 seconds.
        """
        log = self.log("agent")
        before = log.stat().st_size
        self._start("agent")
        self.wait("agent", "enforces", lambda: b"enforced" in log.read_bytes()[before:], 20)

    def stop(self) -> None:
        """End both processes, as an operator would: what is enforced stays enforced."""
        self._http.close()
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def cleanup_agent(self, *, prefix: tuple[str, ...] = ()) -> str:
        """Remove what the agent put on the host; what it says about that. ``prefix`` is a command to run it by.

        Raises:
            ProcessError: something could not be removed.
        """
        done = subprocess.run(
            [*prefix, _PROGRAM, "--config", self.config, "agent", "cleanup", "--yes"],
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        if done.returncode:
            raise ProcessError(done.stderr.strip())
        return done.stdout

    def _start(self, name: str) -> None:
        with self.log(name).open("ab") as log:
            self._running[name] = self._spawn(name, log)

    def _spawn(self, name: str, log: BinaryIO) -> "subprocess.Popen[bytes]":
        environment = self._environment | ({"PORTWARD_AGENT__TOKEN": self.token} if name == "agent" else {})
        return subprocess.Popen(
            [_PROGRAM, "--config", self.config, name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends them in order
        )

    def wait(self, name: str, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until ``condition`` holds, while the process ``name`` runs.

        Raises:
            ProcessError: the process ended, or ``seconds`` are over.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            process = self._running.get(name)
            if process is not None and process.poll() is not None:
                raise ProcessError(f"portward {name} ended:\n{self.log(name).read_text()}")
            with contextlib.suppress(httpx2.TransportError):
                if condition():
                    return
            time.sleep(0.02)
        raise ProcessError(f"after {seconds} s, portward {name} not yet {what}:\n{self.log(name).read_text()[-4000:]}")

    def log(self, name: str) -> Path:
        """Where the process ``name`` logs."""
        return self.directory / f"{name}.log"


def free_port() -> int:
    """A port of loopback that nobody listens on now.

    Below those that the kernel takes for outgoing connections, so that none of these takes it meanwhile.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(*_LISTENED_ON)))
            return int(probe.getsockname()[1])
