"""The last state that the agent set out to enforce, kept on disk for the time when the API cannot be asked.

It is written before the state is applied, never after: see docs/design/agent.md for why only this order cannot
open again what was closed. A file that is damaged is not used at all. One agent at a time may hold the directory.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from portward.channel.messages import MalformedMessage, decode, encode
from portward.model import HostState, PortwardError

_FORMAT = 1


class StateFileError(PortwardError):
    """The directory of the agent's state cannot be used, or what is kept in it cannot be trusted."""


class AgentRunning(StateFileError):
    """Another agent uses this state directory."""


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    sha256: str  # of ``state`` as it stands in the file
    state: msgspec.Raw


class StateFile:
    """``state.json`` in ``directory``, which is made (0700) when it is missing.

    Raises:
        StateFileError: the directory cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "state.json"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateFileError(f"[agent] state_dir {directory} cannot be made: {error.strerror}") from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else uses the directory inside the block; the kernel lets go when the process dies.

        Raises:
            AgentRunning: somebody else does.
            StateFileError: the lock cannot be made.
        """
        try:
            fd = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateFileError(f"{self._directory}/lock cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise AgentRunning(
                f"an agent with [agent] state_dir {self._directory} is running; stop it first"
            ) from error
        try:
            yield
        finally:
            os.close(fd)

    def load(self) -> HostState | None:
        """What was saved last; ``None``: nothing.

        Raises:
            StateFileError: the file is damaged or cannot be read.
        """
        try:
            encoded = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateFileError(f"{self._path} cannot be read: {error.strerror}") from error
        try:
            kept = decode(encoded, _Kept)
            state = decode(bytes(kept.state), HostState)
        except MalformedMessage as error:
            raise StateFileError(f"{self._path} is damaged and not used: {error}") from error
        if kept.format != _FORMAT or hashlib.sha256(kept.state).hexdigest() != kept.sha256:
            raise StateFileError(f"{self._path} is damaged and not used: it is not what its checksum says")
        return state

    def save(self, state: HostState) -> None:
        """Replace what was saved; when this returns, ``state`` survives a crash of the machine.

        Raises:
            StateFileError: it cannot be written; what was saved before is then removed, if that is possible,
                because going back to it could open what was closed since.
        """
        content = encode(state)
        kept = _Kept(format=_FORMAT, sha256=hashlib.sha256(content).hexdigest(), state=msgspec.Raw(content))
        new = self._path.with_suffix(".new")
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                file.write(encode(kept))
                file.flush()
                os.fsync(fd)
            new.rename(self._path)
            self._sync_directory()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.remove()
            raise StateFileError(f"{self._path} cannot be written: {error.strerror}") from error

    def remove(self) -> None:
        """Forget what was saved."""
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".new").unlink(missing_ok=True)
        self._sync_directory()

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
