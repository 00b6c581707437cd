"""Knowing a process again before it is killed: process ids are used anew."""

import contextlib
import os
import signal
import time
from pathlib import Path

from portward.lab.errors import LabError
from portward.lab.state import Process

_PATIENCE = 5.0  # seconds that the kernel has to end a killed process


def identify(pid: int) -> Process:
    """The running process ``pid``, as one that can be told from any later one.

    Raises:
        LabError: there is none.
    """
    started = _started(pid)
    if started is None:
        raise LabError(f"process {pid} ended before it could be used")
    return Process(pid, started)


def kill(process: Process) -> None:
    """End ``process``, if it still runs, and wait until it is gone; any other under its id is left alone.

    Raises:
        LabError: it cannot be ended.
    """
    deadline = time.monotonic() + _PATIENCE
    with contextlib.suppress(ProcessLookupError):
        if _started(process.pid) == process.started:
            os.kill(process.pid, signal.SIGKILL)
    while _started(process.pid) == process.started:
        if time.monotonic() > deadline:
            raise LabError(f"process {process.pid} of the lab does not end; look at it with `ps {process.pid}`")
        time.sleep(0.002)


def _started(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; ``None``: there is none that runs (proc(5), stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
