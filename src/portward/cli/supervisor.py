"""The agent as a child of ``portward run``: started when the API answers, and again whenever it ends.

A crash of the agent must not take the API along, nor the other way round, so they are two processes. ``setpriv``
(util-linux) lets the kernel end the child when this process is gone, however that came about.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from portward.cli.output import err

_RESTART_AFTER = 1.0  # seconds


class AgentProcess:
    """``portward agent`` for ``host``, kept running until the ``with`` block ends."""

    def __init__(self, config: Path | None, host: str) -> None:
        options = [] if config is None else ["--config", str(config)]
        self._command = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "portward", *options, "agent"]
        self._environment = {**os.environ, "PORTWARD_AGENT__HOST": host}
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()  # no child is started once stopping has begun
        self._thread = threading.Thread(target=self._keep_running, name="portward-agent-supervisor")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._starting:
            self._stopping.set()
            if self._child is not None:
                self._child.terminate()
        if self._thread.is_alive():
            self._thread.join()

    def start(self, api: str, token: str) -> None:
        """Start it with ``token``, now that the agents' listener answers at URL ``api``."""
        self._environment["PORTWARD_AGENT__API"] = api
        self._environment["PORTWARD_AGENT__TOKEN"] = token
        self._thread.start()

    def _keep_running(self) -> None:
        while True:
            with self._starting:
                if self._stopping.is_set():
                    return
                # A process group of its own: Ctrl-C is for this process, which then ends the child in order.
                self._child = subprocess.Popen(
                    self._command, env=self._environment, stdin=subprocess.DEVNULL, process_group=0
                )
            status = self._child.wait()
            if not self._stopping.wait(_RESTART_AFTER):
                err.print(f"portward: the agent ended with status {status} and is started again", style="bold red")
