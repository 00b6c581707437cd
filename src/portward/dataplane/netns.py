"""Named network namespaces: open one safely, and run a function inside it.

The calling thread never changes its namespace: the function runs in a thread of its own that ends with it.
Refused are names that are not validated, and files under ``/run/netns`` that are no network namespace (``ip
netns add`` makes the file first and mounts the namespace on it a moment later).
"""

import _thread
import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from portward.dataplane.protocol import DataplaneError
from portward.model import check_namespace_name

#: Where ``ip netns`` and Neutron keep their namespaces.
DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_START = 5.0  # seconds within which a thread runs, if it ever does
_Result = TypeVar("_Result")
_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(DataplaneError):
    """A network namespace is not there, is none, or may not be entered."""


class NoSuchNamespace(NamespaceError):
    """No network namespace has that name (yet)."""


class NamespaceId(NamedTuple):
    """What tells two namespaces apart for as long as one of them is held open."""

    device: int
    inode: int


def open_namespace(name: str | None) -> int:
    """A file descriptor of namespace ``name``, which the caller closes; ``None`` is the process' own.

    Raises:
        InvalidValue: ``name`` could not be that of a namespace.
        NoSuchNamespace: there is none of that name (yet).
        NamespaceError: it may not be opened.
    """
    path = Path("/proc/self/ns/net") if name is None else DIRECTORY / check_namespace_name(name)
    nofollow = 0 if name is None else os.O_NOFOLLOW
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | nofollow)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise NoSuchNamespace(f"namespace {name} does not exist") from error
        raise NamespaceError(f"namespace {name} cannot be opened: {error.strerror}") from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        os.close(fd)
        raise NoSuchNamespace(f"{path} is not a network namespace")
    return fd


def namespace_id(fd: int) -> NamespaceId:
    """The identity of the namespace that ``fd`` holds open."""
    status = os.fstat(fd)
    return NamespaceId(status.st_dev, status.st_ino)


def in_namespace(namespace: str | int, function: Callable[[], _Result]) -> _Result:
    """What ``function`` returns, or raises, when it runs inside ``namespace``: a name or an open descriptor.

    Sockets that it opens, and processes that it starts, stay in that namespace.

    Raises:
        InvalidValue, NamespaceError: as ``open_namespace``, or the process may not enter it.
    """
    if isinstance(namespace, int):
        return _run_inside(namespace, function)
    fd = open_namespace(namespace)
    try:
        return _run_inside(fd, function)
    finally:
        os.close(fd)


def in_new_namespace(function: Callable[[], _Result]) -> _Result:
    """What ``function`` returns, or raises, when it runs inside a namespace without a name, which ends with it.

    Raises:
        NamespaceError: there can be no such namespace.
    """
    return _run_in_thread(lambda: _call("made", _libc.unshare(_CLONE_NEWNET)), function)


def _run_inside(fd: int, function: Callable[[], _Result]) -> _Result:
    return _run_in_thread(lambda: _call("entered", _libc.setns(fd, _CLONE_NEWNET)), function)


def _call(done: str, status: int) -> None:
    if status != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NamespaceError(f"the network namespace cannot be {done}: {reason} (CAP_SYS_ADMIN is needed)")


def _run_in_thread(enter: Callable[[], None], function: Callable[[], _Result]) -> _Result:
    """Call both in a thread of their own.

    ``threading.Thread`` is not used: its ``start`` waits for ever for a thread that dies of a lack of memory before
    its first line.
    """
    results: list[_Result] = []
    failures: list[BaseException] = []
    claim, started, ended = (_thread.allocate_lock() for _ in range(3))
    started.acquire()
    ended.acquire()

    def run() -> None:
        if not claim.acquire(blocking=False):
            return  # nobody waits any more
        started.release()
        try:
            enter()
            results.append(function())
        except BaseException as error:  # also KeyboardInterrupt and SystemExit belong to the caller's thread
            failures.append(error)
        finally:
            ended.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError as error:
        raise NamespaceError(f"no thread can be started: {error} (memory, or a limit on threads)") from error
    if not started.acquire(timeout=_START) and claim.acquire(blocking=False):
        raise NamespaceError("no thread can be started: there is no memory for it")
    ended.acquire()
    if failures:
        raise failures[0]
    if not results:
        raise MemoryError
    return results[0]
