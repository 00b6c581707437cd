"""An Open vSwitch in userspace, in a namespace of its own, whose two daemons can be killed and started one by one."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from portward.dataplane.netns import in_namespace

PATIENCE = 10.0
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_numbers = itertools.count(1)


class BareSwitch:
    """ovsdb-server and ovs-vswitchd with private sockets and database; no bridge yet."""

    def __init__(self) -> None:
        self.netns = f"pw-ovs-{os.getpid()}-{next(_numbers)}"
        self.run_dir = Path(tempfile.mkdtemp(prefix="pw-ovs-"))
        self._environment = os.environ | {
            name: str(self.run_dir) for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        }
        self._database: subprocess.Popen[bytes] | None = None
        self._vswitchd: subprocess.Popen[bytes] | None = None
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.ip("link set lo up")
        subprocess.run(["ovsdb-tool", "create", self.run_dir / "conf.db", _SCHEMA], check=True)

    def __enter__(self) -> Self:
        self.start_database()
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_vswitchd()
        self.kill_database()
        subprocess.run(["ip", "netns", "delete", self.netns], check=True)
        shutil.rmtree(self.run_dir)

    def start_database(self) -> None:
        """Start ovsdb-server and wait for its socket."""
        self._database = self._start("ovsdb-server", str(self.run_dir / "conf.db"), f"--remote=punix:{self._socket}")
        until(lambda: self._try("ovs-vsctl", "--no-wait", "show"))

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd and wait until it answers."""
        self._vswitchd = self._start("ovs-vswitchd", f"unix:{self._socket}", "--pidfile")
        until(lambda: self._try("ovs-appctl", "version"))

    def kill_database(self) -> None:
        """SIGKILL ovsdb-server."""
        self._database = _kill(self._database)

    def kill_vswitchd(self) -> None:
        """SIGKILL ovs-vswitchd."""
        self._vswitchd = _kill(self._vswitchd)

    @contextlib.contextmanager
    def stopped_database(self) -> Iterator[None]:
        """An ovsdb-server that says nothing."""
        with _stopped(self._database):
            yield

    @contextlib.contextmanager
    def stopped_vswitchd(self) -> Iterator[None]:
        """An ovs-vswitchd that does nothing."""
        with _stopped(self._vswitchd):
            yield

    def ip(self, *commands: str) -> None:
        """Do ``commands`` of the ip tool where the switch runs."""
        subprocess.run(["ip", "-netns", self.netns, "-batch", "-"], input="\n".join(commands).encode(), check=True)

    def vsctl(self, *arguments: str) -> str:
        """What ovs-vsctl says."""
        return self._run("ovs-vsctl", "--timeout=10", *arguments)

    def ofctl(self, *arguments: str) -> str:
        """What ovs-ofctl says."""
        return self._run("ovs-ofctl", "-O", "OpenFlow14", *arguments)

    def appctl(self, *arguments: str) -> str:
        """What ovs-appctl says."""
        return self._run("ovs-appctl", *arguments)

    def control(self, command: str, *arguments: str) -> str:
        """What appctl says, without a process: in less than a millisecond."""
        assert self._vswitchd is not None
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.run_dir / f"ovs-vswitchd.{self._vswitchd.pid}.ctl"))
            connection.sendall(json.dumps({"id": 0, "method": command, "params": arguments}).encode())
            text = b""
            while True:
                text += connection.recv(1 << 20)
                with contextlib.suppress(ValueError):
                    return str(json.loads(text)["result"])

    @property
    def _socket(self) -> Path:
        return self.run_dir / "db.sock"

    def _run(self, *command: str) -> str:
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True).stdout

    def _try(self, *command: str) -> bool:
        return subprocess.run(command, env=self._environment, capture_output=True, check=False).returncode == 0

    def _start(self, daemon: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [daemon, *arguments, "-vconsole:off", "-vsyslog:off", f"--log-file={self.run_dir / daemon}.log"]
        return in_namespace(self.netns, lambda: subprocess.Popen(command, env=self._environment, stderr=2))


@contextlib.contextmanager
def bare_switch() -> Iterator[BareSwitch]:
    """A switch that runs, without bridges."""
    with contextlib.ExitStack() as undo:
        switch = BareSwitch()
        undo.push(switch.__exit__)
        switch.__enter__()
        yield switch


def until(holds: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until ``holds()``."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)


@contextlib.contextmanager
def _stopped(process: subprocess.Popen[bytes] | None) -> Iterator[None]:
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()
