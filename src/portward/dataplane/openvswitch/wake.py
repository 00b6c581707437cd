"""One descriptor to wait on for ever, whatever connections come and go behind it.

It is readable when a socket has something to say, when a time has come, or when something was made in a directory
(a daemon's socket, as the daemon starts). Refuses to say which: whoever is woken looks at all it has.
"""

import ctypes
import os
import select
import struct
from pathlib import Path

from portward.dataplane.protocol import DataplaneError

_IN_CREATE, _IN_MOVED_TO, _IN_ONLYDIR = 0x100, 0x80, 0x01000000  # inotify(7)
_CLOCK_MONOTONIC = 1
_SOON = 1e-9  # a timer that is set to 0 is off
_libc = ctypes.CDLL(None, use_errno=True)


class Wake:
    """Waits for sockets, one timer, and for what is made in ``directory`` (which may itself be made later).

    It has the methods of the ``ovs`` package's ``Poller`` that register what to wait for.

    Raises:
        DataplaneError: the kernel gives no more descriptors.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._epoll = select.epoll()
        self._inotify = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._timer = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._inotify < 0 or self._timer < 0:
            self.close()
            raise DataplaneError("the system gives no more descriptors: raise the limit on open files (LimitNOFILE)")
        for fd in (self._inotify, self._timer):
            self._epoll.register(fd, select.EPOLLIN)
        self._sockets: dict[int, int] = {}
        self._wanted: dict[int, int] = {}
        self._above = -1  # the watch of the directory's parent, while there is no directory
        self.pause: float | None = None  # seconds until the timer, as it was last asked for; None: never
        self.look()

    def fileno(self) -> int:
        """The descriptor; it stays the same."""
        return self._epoll.fileno()

    def look(self) -> bool:
        """Whether something was made in the directory since this was last asked; its events are read."""
        made = False
        try:
            while os.read(self._inotify, 1 << 16):
                made = True
        except BlockingIOError:
            pass
        # Watched anew each time: the directory may have been made, or replaced, and a watch that stands stays one.
        if self._watch(self._directory) >= 0:
            _libc.inotify_rm_watch(self._inotify, self._above)
            self._above = -1
        else:
            self._above = self._watch(self._directory.parent)
        return made

    def _watch(self, path: Path) -> int:
        mask = _IN_CREATE | _IN_MOVED_TO | _IN_ONLYDIR
        return int(_libc.inotify_add_watch(self._inotify, os.fsencode(path), mask))

    def begin(self) -> None:
        """Forget what to wait for, but for the directory; ``fd_wait`` and the timers say it again, then ``end``."""
        self._wanted, self.pause = {}, None

    def fd_wait(self, fd: object, events: int) -> None:
        """Wait for ``events`` of poll(2) on a descriptor, or on what has one."""
        number = fd if isinstance(fd, int) else fd.fileno()  # type: ignore[attr-defined]
        self._wanted[number] = self._wanted.get(number, 0) | events

    def timer_wait(self, milliseconds: float) -> None:
        """Wake after so long at the latest."""
        seconds = max(milliseconds / 1000, 0.0)
        self.pause = seconds if self.pause is None else min(self.pause, seconds)

    def immediate_wake(self) -> None:
        """Wake at once."""
        self.timer_wait(0)

    def end(self) -> None:
        """Wait for what was said since ``begin``."""
        for fd in self._sockets:
            # Unregistered even if it is wanted: it may be a new socket with the number of an old one.
            try:
                self._epoll.unregister(fd)
            except OSError:
                continue  # closed, and so gone from the epoll
        self._sockets = self._wanted
        for fd, events in self._sockets.items():
            self._epoll.register(fd, events)
        self._set_timer(0.0 if self.pause is None else max(self.pause, _SOON))

    def again(self) -> None:
        """Be readable until the next ``end``."""
        self._set_timer(_SOON)

    def _set_timer(self, pause: float) -> None:
        seconds, fraction = divmod(pause, 1)
        setting = struct.pack("@qqqq", 0, 0, int(seconds), round(fraction * 1e9))
        _libc.timerfd_settime(self._timer, 0, setting, None)  # also unsets one that went off

    def wait(self, seconds: float) -> None:
        """Block until there is something, at most so long."""
        self._epoll.poll(max(seconds, 0.0))

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in (self._inotify, self._timer):
            if fd >= 0:
                os.close(fd)
        self._inotify = self._timer = -1
        self._epoll.close()
