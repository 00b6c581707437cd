"""A listener that is a file: whoever may write to it may connect, and nobody on any network can.

What it refuses: to take the place of a file that is no socket, or of a socket that somebody answers on.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from portward.config import ConfigurationError

#: The socket's owner and group may connect; the directory decides who reaches it.
_MODE = 0o660


def listen(path: Path) -> socket.socket:
    """A listener at ``path``, in the place of one that a dead process left there.

    Raises:
        ConfigurationError: something else is there, or it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        mask = os.umask(0o777 & ~_MODE)  # never, for a moment, open to all
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on unix:{path}: {error.strerror or error}") from error
    except ConfigurationError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def removed_at_end(path: Path | None) -> Iterator[None]:
    """Remove the socket at ``path``, which exists now, if by then it is still the same."""
    if path is None:
        yield
        return
    mine = path.stat()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), mine):
                path.unlink()


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"cannot listen on unix:{path}: there is a file, and it is no socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:  # a backlog that is full: somebody listens
            pass
    raise ConfigurationError(f"cannot listen on unix:{path}: another process listens there")
