"""The real ``openstack`` client: one process, fed one command after the other.

It takes seconds to start and milliseconds to run a command, so it is started once, reading its commands from
standard input as it would from a person.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_END = "=== end of answer ==="


class ClientError(Exception):
    """The client could not be started, or ended in the middle of the story."""


class OpenStackClient:
    """An ``openstack`` process; ``access`` are the ``OS_`` variables that say where the API is and who calls."""

    def __init__(self, access: Mapping[str, str]) -> None:
        program = Path(sys.executable).with_name("openstack")
        if not program.exists():
            raise ClientError(f"{program} is missing; run `make setup`")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        environment |= {
            **access,
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore",
            "NO_PROXY": "*",
            "COLUMNS": "100",
        }
        self._process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def run(self, command: str) -> str:
        """What the client printed for ``command``, given without the leading ``openstack``.

        Raises:
            ClientError: the client ended.
        """
        assert self._process.stdin
        assert self._process.stdout
        # "!" has the client run a shell command: its output marks the end of the answer.
        try:
            self._process.stdin.write(f"{command}\n!echo {_END}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ClientError(f"the openstack client ended before `{command}`") from None
        lines: list[str] = []
        for line in self._process.stdout:
            if _END in line:
                return "".join(lines).strip()
            lines.append(line)
        raise ClientError(f"the openstack client ended during `{command}`:\n" + "".join(lines))
