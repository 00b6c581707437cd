"""A database server as a child process that is never root, listens on a Unix socket only, and leaves nothing behind.

Its data is kept as carelessly as the server allows (no fsync): it lives for a test session. Use it outside pytest as a
context manager, from a thread that lives as long as the server is needed: the kernel ends the server with it.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

_DEADLINE = 60.0  # seconds that a server may take to start or to stop


class DatabaseServer(ABC):
    """A server that is made, started and stopped. ``create`` gives a new, empty database on it."""

    #: The signal that ends it quickly and in good order.
    stop_signal: signal.Signals
    #: The signal that the kernel sends it, should this process die without stopping it.
    orphan_signal: str

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pw-server-", dir="/tmp"))  # a socket's path has 107 bytes
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def __enter__(self) -> Self:
        try:
            self.data.mkdir(mode=0o700)
            if os.geteuid() == 0:
                user = pwd.getpwnam("nobody")
                for place in (self.directory, self.data):
                    os.chown(place, user.pw_uid, user.pw_gid)
            self.initialise()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._unprivileged(), "--pdeathsig", self.orphan_signal, *self.command()],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _DEADLINE
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command()[0]} did not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; its databases stay until the context ends. Does nothing when it does not run."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(self.stop_signal)
        try:
            process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def create(self) -> str:
        """Make an empty database; its URL, as an operator would write it."""
        self._databases += 1
        name = f"test{self._databases}"
        self.execute(self.create_statement(name))
        return self.url(name)

    def run(self, command: list[str], **input_: bytes) -> None:
        """Run a command of the server's package to its end, without privileges.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        done = subprocess.run(
            [*self._unprivileged(), *command],
            cwd=self.directory,
            capture_output=True,
            timeout=_DEADLINE,
            check=False,
            **input_,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {(done.stdout + done.stderr).decode(errors='replace')}")

    def _unprivileged(self) -> list[str]:
        user = pwd.getpwnam("nobody")
        ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
        return ["setpriv", *(ids if os.geteuid() == 0 else [])]

    @abstractmethod
    def initialise(self) -> None:
        """Fill the directory of data."""

    @abstractmethod
    def command(self) -> list[str]:
        """What runs the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes connections."""

    @abstractmethod
    def execute(self, statement: str) -> None:
        """Execute one statement as the server's owner, outside any database of a test."""

    @abstractmethod
    def create_statement(self, name: str) -> str:
        """What makes an empty database ``name``."""

    @abstractmethod
    def url(self, database: str, user: str = "", password: str = "") -> str:
        """The URL of ``database`` for ``user``, by default the server's owner, who has no password."""


def find_command(name: str, *places: str) -> str:
    """The path of ``name`` on PATH or in one of ``places``, globs of directories; the last that matches.

    Raises:
        RuntimeError: it is not installed.
    """
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    candidates = [str(path) for place in places for path in sorted(Path("/").glob(place.lstrip("/") + f"/{name}"))]
    if found is None and not candidates:
        raise RuntimeError(f"{name} is not installed: run `scripts/setup test`")
    return found or candidates[-1]
