"""Auth mode ``http_basic``: user and password in the ``Authorization`` header of each request (RFC 7617).

A password is compared with its bcrypt hash once, in worker threads of its own, so that no number of wrong ones takes
the threads that serve requests, and wrong ones for one name keep nobody else waiting. Then it is known, under a keyed
digest that is worth nothing outside this process, for as long as the user's line in the file stays as it is. Whether a
user exists does not show in how long the refusal takes. The file is looked at on each request, and read again when it
changed; a broken one changes nothing and is logged.
"""

import base64
import binascii
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import bcrypt
import msgspec
import structlog

from portward.api.errors import Unauthenticated
from portward.api.identity.caller import Caller, Identify, with_implied
from portward.api.identity.users import MAX_PASSWORD, User, read_users
from portward.api.identity.verified import Verified
from portward.api.signature import signature
from portward.config import ConfigurationError
from portward.service.errors import ServiceError

_log = structlog.get_logger(__name__)
CHALLENGE = 'Basic realm="portward"'
#: How many verified passwords are known, the last used ones.
CACHE_SIZE = 4096
#: Threads that compare passwords, and how many requests may wait for one: of one user or of all unknown ones, of all.
_THREADS = max(1, (os.cpu_count() or 2) // 2)
_WAITING_EACH, _WAITING = 4, 64


class TooManyLogins(ServiceError):
    """More passwords wait to be compared than this process gets through in some seconds."""

    status = 503
    template = "Too many passwords are being verified at this time; try again in some seconds."


class PasswordTooLong(Unauthenticated):
    """A password that no user can have."""

    def __init__(self) -> None:
        super().__init__(CHALLENGE)
        self.args = (f"A password has at most {MAX_PASSWORD} bytes.",)


def make_identify(users_file: Path) -> Identify:
    """Callers are who they prove to be by a password of ``users_file``.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    return _Passwords(users_file).identify


class _Known:
    """The users of one state of the file."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self.users = users
        # What a user who does not exist costs; the hash of no password.
        cost = max((user.cost for user in users.values()), default=12)
        self.nobody = f"$2b${cost:02}${'.' * 53}".encode()


class _Comparison:
    """One that is under way. ``right`` is its outcome, ``None``: it came to none."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.right: bool | None = None


class _Passwords:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._turns = anyio.CapacityLimiter(_THREADS)
        self._waiting: Counter[str | None] = Counter()  # requests by user, None for those who do not exist
        self._running: dict[tuple[str | None, bytes, bytes], _Comparison] = {}
        self._verified = Verified(CACHE_SIZE)
        self._seen = signature(path)
        self._known = _Known(read_users(path))

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        name, password = _credentials(headers.get("authorization", ""))
        known = self._current()
        user = known.users.get(name.decode(errors="replace"))
        sent = password, msgspec.json.encode(user)  # another line of the file, and the password is to be shown again
        if user is not None and (caller := self._verified.find(sent, 0.0)):
            return caller
        if len(password) > MAX_PASSWORD:
            raise PasswordTooLong
        hash_ = known.nobody if user is None else user.password_hash.encode()
        if not await self._fits(password, hash_, None if user is None else user.name) or user is None:
            raise Unauthenticated(CHALLENGE)
        caller = Caller(project_id=user.project_id, roles=with_implied(user.roles), user=user.name)
        self._verified.remember(sent, caller, math.inf)
        return caller

    async def _fits(self, password: bytes, hash_: bytes, name: str | None) -> bool:
        """Whether they fit; requests that come with the same meanwhile share the answer.

        Raises:
            TooManyLogins: too many wait.
        """
        asked = name, password, hash_
        while running := self._running.get(asked):
            await running.done.wait()
            if running.right is not None:
                return running.right
        if self._waiting[name] >= _WAITING_EACH or self._waiting.total() >= _WAITING:
            raise TooManyLogins
        running = self._running[asked] = _Comparison()
        self._waiting[name] += 1
        try:
            async with self._turns:
                running.right = await anyio.to_thread.run_sync(_compare, password, hash_, limiter=self._threads)
        finally:
            self._waiting -= Counter([name])
            del self._running[asked]
            running.done.set()
        return running.right

    def _current(self) -> _Known:
        found = signature(self._path)
        if found != self._seen:
            self._seen = found
            try:
                self._known = _Known(read_users(self._path))
                _log.info("users_read", users=len(self._known.users))
            except ConfigurationError as error:
                _log.error("users_file_refused", error=str(error), kept=len(self._known.users))
        return self._known


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
