"""A place for one value between two threads: the newest replaces the one that was not taken yet."""

import threading
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Mailbox(Generic[_Value]):
    """Holds the newest value until it is taken. Safe to use from many threads."""

    def __init__(self) -> None:
        self._value: _Value | None = None
        self._filled = threading.Condition()
        self._closed = False

    def put(self, value: _Value) -> None:
        """Replace what is there."""
        with self._filled:
            self._value = value
            self._filled.notify()

    def put_back(self, value: _Value) -> None:
        """Put in what could not be used, unless something newer came."""
        with self._filled:
            if self._value is None:
                self._value = value
                self._filled.notify()

    def take(self) -> _Value | None:
        """What is there, if anything."""
        with self._filled:
            value, self._value = self._value, None
            return value

    def wait(self) -> _Value | None:
        """What is there, or what comes; ``None`` once the mailbox is closed and empty."""
        with self._filled:
            self._filled.wait_for(lambda: self._value is not None or self._closed)
            value, self._value = self._value, None
            return value

    def close(self) -> None:
        """Nothing will come any more."""
        with self._filled:
            self._closed = True
            self._filled.notify_all()
