"""Auth mode ``http_basic``: user and password in the ``Authorization`` header of each request (RFC 7617).

A password is compared with its bcrypt hash once, in worker threads of its own, so that no number of wrong ones takes
the threads that serve requests. Then a cache knows it for a while, under a keyed digest that is worth nothing outside
this process. Whether a user exists does not show in how long the refusal takes. The file is looked at on each request,
and read again when it changed; a broken one changes nothing and is logged.
"""

import base64
import binascii
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import bcrypt
import structlog

from portward.api.errors import Unauthenticated
from portward.api.identity.caller import Caller, Identify, with_implied
from portward.api.identity.users import MAX_PASSWORD, User, read_users
from portward.api.identity.verified import Verified
from portward.config import ConfigurationError
from portward.service.errors import ServiceError

_log = structlog.get_logger(__name__)
CHALLENGE = 'Basic realm="portward"'
#: Seconds that a verified password is known, and how many are.
CACHE_SECONDS = 300.0
CACHE_SIZE = 1024
#: Threads that compare passwords, and how many callers may wait for one.
_THREADS = max(1, (os.cpu_count() or 2) // 2)
_WAITING = 64


class TooManyLogins(ServiceError):
    """More passwords wait to be compared than this process gets through in some seconds."""

    status = 503
    template = "Too many passwords are being verified at this time; try again in some seconds."


class PasswordTooLong(Unauthenticated):
    """A password that no user can have."""

    def __init__(self) -> None:
        super().__init__(CHALLENGE)
        self.args = (f"A password has at most {MAX_PASSWORD} bytes.",)


def make_identify(users_file: Path, *, clock: Callable[[], float] = time.monotonic) -> Identify:
    """Callers are who they prove to be by a password of ``users_file``; ``clock`` tells seconds.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    return _Passwords(users_file, clock).identify


class _Known:
    """The users of one state of the file, and the passwords verified against it. A new state starts with none."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self.users = users
        # What a user who does not exist costs; the hash of no password.
        cost = max((user.cost for user in users.values()), default=12)
        self.nobody = f"$2b${cost:02}${'.' * 53}".encode()
        self.verified = Verified(CACHE_SIZE)


class _Passwords:
    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._turns = anyio.CapacityLimiter(_THREADS)
        self._seen = _signature(path)
        self._known = _Known(read_users(path))

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        sent = _credentials(headers.get("authorization", ""))
        known = self._current()
        return known.verified.find(sent, self._clock()) or await self._verify(known, sent)

    async def _verify(self, known: _Known, sent: tuple[bytes, bytes]) -> Caller:
        name, password = sent
        if len(password) > MAX_PASSWORD:
            raise PasswordTooLong
        if self._turns.statistics().tasks_waiting >= _WAITING:
            raise TooManyLogins
        async with self._turns:
            if caller := known.verified.find(sent, self._clock()):  # somebody before us in the queue sent the same
                return caller
            user = known.users.get(name.decode(errors="replace"))
            hash_ = known.nobody if user is None else user.password_hash.encode()
            right = await anyio.to_thread.run_sync(_compare, password, hash_, limiter=self._threads)
        if user is None or not right:
            raise Unauthenticated(CHALLENGE)
        caller = Caller(project_id=user.project_id, roles=with_implied(user.roles), user=user.name)
        known.verified.remember(sent, caller, self._clock() + CACHE_SECONDS)
        return caller

    def _current(self) -> _Known:
        signature = _signature(self._path)
        if signature != self._seen:
            self._seen = signature
            try:
                self._known = _Known(read_users(self._path))
                _log.info("users_read", users=len(self._known.users))
            except ConfigurationError as error:
                _log.error("users_file_refused", error=str(error), kept=len(self._known.users))
        return self._known


def _signature(path: Path) -> tuple[int, ...]:
    """Another one when the file is another one, or has been written to."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size, state.st_mode


def _credentials(header: str) -> tuple[bytes, bytes]:
    scheme, _, encoded = header.partition(" ")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise Unauthenticated(CHALLENGE) from None
    if scheme.lower() != "basic" or not colon:
        raise Unauthenticated(CHALLENGE)
    return name, password


def _compare(password: bytes, hash_: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hash_)
    except ValueError:  # bytes that bcrypt takes from nobody
        return False
