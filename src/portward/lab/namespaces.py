"""Doing things inside a namespace: sysctls, ``ip`` and ``nft`` commands, processes, sockets.

``ip`` and ``nft`` are the ordinary tools, fed by text on standard input. Every name in that text was validated
where it was made.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from portward.dataplane.netns import in_namespace
from portward.lab.errors import LabError

_SYSCTL = Path("/proc/sys/net")


def ip(netns: str, commands: Iterable[str]) -> None:
    """Run ``commands`` of the ``ip`` tool inside ``netns``.

    Raises:
        LabError: one of them failed, or there is no such tool.
    """
    _run(["ip", "-netns", netns, "-batch", "-"], "\n".join(commands))


def add_namespace(netns: str) -> None:
    """Make the named namespace.

    Raises:
        LabError: there is one already, or it cannot be made.
    """
    _run(["ip", "netns", "add", netns])


def delete_namespace(netns: str) -> None:
    """Remove the named namespace, if there is one."""
    if (Path("/run/netns") / netns).exists():
        _run(["ip", "netns", "delete", netns])


def nft(netns: str, text: str) -> str:
    """What ``nft`` prints for the commands ``text``, run as one transaction inside ``netns``.

    Raises:
        LabError: nft refused them, or there is no such tool.
    """
    return in_namespace(netns, lambda: _run(["nft", "-f", "-"], text))


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs ``main()`` of ``module`` in an interpreter like this one, named so in ``ps``."""
    return [sys.executable, "-c", f"from {module} import main; main()", *arguments]


def sysctl(netns: str, values: Mapping[str, str]) -> None:
    """Set sysctls below ``net/`` in ``netns``; one that this kernel does not know is passed over."""

    def write() -> None:
        for key, value in values.items():
            path = _SYSCTL / key
            if path.exists():
                path.write_text(value)

    in_namespace(netns, write)


def _run(command: Sequence[str], text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed; on Debian: apt install iproute2 nftables") from error
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
