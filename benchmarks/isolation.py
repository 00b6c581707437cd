"""Mounts of their own for benchmarks: network namespaces that nobody else sees, and that end with the process."""

import ctypes
import os
import subprocess
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_OWN = ("/run/netns", "/run/portward-lab")


def own_mounts() -> None:
    """Let the calling thread, and what it starts, have an empty ``/run/netns``, for as long as they live.

    Agents of a benchmark then find its namespaces and no others, and however it ends, nothing of them is left.
    Without root nothing is done.

    Raises:
        OSError, subprocess.CalledProcessError: this process may not mount, as in a container.
    """
    if os.geteuid() != 0:
        return
    for directory in _OWN:
        Path(directory).mkdir(mode=0o700, exist_ok=True)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "mounts of its own are refused (CAP_SYS_ADMIN is missing)")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for directory in _OWN:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", directory], check=True)
