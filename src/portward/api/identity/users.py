"""The users' file of auth mode ``http_basic``: a line a user, ``name:bcrypt-hash:project-id:role,role``.

Lines that begin with ``#`` are comments and stay where they are. The file is refused whole when one line is broken, or
when others than its owner and group may read the hashes, or anybody but its owner may write them: half a users' file
would let in, or lock out, whoever nobody decided on. Writers replace it in one step and wait for each other.
"""

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import msgspec

from portward.config import ConfigurationError
from portward.model import InvalidValue

#: Bytes of a password that bcrypt looks at; it would pass over the rest.
MAX_PASSWORD = 72
_NAME = re.compile(r"[^:#\s\x00-\x1f\x7f][^:\x00-\x1f\x7f]{0,254}")
_PROJECT = re.compile(r"[^:\s\x00-\x1f\x7f]{1,36}")
_ROLE = re.compile(r"[a-z0-9_.-]{1,64}")
_HASH = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")
_TOO_OPEN = stat.S_IRWXO | stat.S_IWGRP


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the file.

    Raises:
        InvalidValue: a part that the file cannot hold.
    """

    name: str  # 1 to 255 characters, no colon
    password_hash: str  # bcrypt of cost 4 to 16
    project_id: str  # 1 to 36 characters, no colon
    roles: tuple[str, ...]  # as written: those that they imply are not among them

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidValue(f"{self.name!r} is no user name: 1 to 255 characters, no colon, # not the first")
        if not _PROJECT.fullmatch(self.project_id):
            raise InvalidValue(f"{self.project_id!r} is no project id: 1 to 36 characters, no colon, no space")
        for role in self.roles:
            if not _ROLE.fullmatch(role):
                raise InvalidValue(f"{role!r} is no role: give admin, member, reader, or one of your policy file")
        if not _HASH.fullmatch(self.password_hash):
            raise InvalidValue(f"the hash of {self.name!r} is no bcrypt hash of cost 4 to 16")

    @property
    def cost(self) -> int:
        """The cost of its hash: 2 to the power of so many rounds."""
        return int(self.password_hash[4:6])


def hash_password(password: str) -> str:
    """The bcrypt hash of ``password``.

    Raises:
        InvalidValue: a password that is empty, or longer than bcrypt looks at.
    """
    encoded = password.encode()
    if not 0 < len(encoded) <= MAX_PASSWORD:
        raise InvalidValue(
            f"a password has 1 to {MAX_PASSWORD} bytes (bcrypt looks at no more); this has {len(encoded)}"
        )
    return bcrypt.hashpw(encoded, bcrypt.gensalt()).decode()


def read_users(path: Path) -> dict[str, User]:
    """The users in the file, by name.

    Raises:
        ConfigurationError: no such file, a broken line, or permissions that show the hashes to others.
    """
    try:
        with open(path, encoding="utf-8", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigurationError(f"[auth] users_file: {path} is no regular file")
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise ConfigurationError(f"[auth] users_file: {path} is missing; make it by `portward user add`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"[auth] users_file: {path}: {error}") from error
    if mode & _TOO_OPEN:
        raise ConfigurationError(
            f"[auth] users_file: {path} holds password hashes and its permissions are {stat.S_IMODE(mode):04o}: "
            f"`chmod 600 {path}` (0640 if the API runs as another user, of the file's group)"
        )
    users: dict[str, User] = {}
    for number, line in enumerate(lines, 1):
        if not _is_user(line):
            continue
        try:
            user = _parse(line)
        except InvalidValue as error:
            raise ConfigurationError(f"[auth] users_file: {path}, line {number}: {error}") from error
        if user.name in users:
            raise ConfigurationError(f"[auth] users_file: {path}, line {number}: there are two users {user.name!r}")
        users[user.name] = user
    return users


def _without_waiting(path: str, flags: int) -> int:
    """Open what is no file, a pipe say, without waiting for whoever writes into it: everybody would wait."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_user(path: Path, user: User) -> None:
    """Add ``user``, or put it in the place of the one of that name.

    Raises:
        ConfigurationError: the file that is there cannot be used.
    """
    with _rewriting(path) as lines:
        new = f"{user.name}:{user.password_hash}:{user.project_id}:{','.join(user.roles)}"
        places = [place for place, line in enumerate(lines) if _is_user(line) and _parse(line).name == user.name]
        if places:
            lines[places[0]] = new
        else:
            lines.append(new)


def remove_user(path: Path, name: str) -> None:
    """Remove the user ``name``.

    Raises:
        InvalidValue: there is none.
        ConfigurationError: the file that is there cannot be used.
    """
    with _rewriting(path) as lines:
        kept = [line for line in lines if not _is_user(line) or _parse(line).name != name]
        if len(kept) == len(lines):
            raise InvalidValue(f"there is no user {name!r}; `portward user list` shows them")
        lines[:] = kept


def _is_user(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _parse(line: str) -> User:
    name, *rest = line.split(":")
    if len(rest) != 3:
        raise InvalidValue("a line is name:bcrypt-hash:project-id:role,role")
    password_hash, project_id, roles = (part.strip() for part in rest)
    named = tuple(role.strip().lower() for role in roles.split(",")) if roles else ()
    return User(name=name, password_hash=password_hash, project_id=project_id, roles=named)


@contextmanager
def _rewriting(path: Path) -> Iterator[list[str]]:
    """Its lines, to be changed in place; then they are the file. Others wait: the lock is on the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        before = path.stat() if path.exists() else None
        if before is not None:
            read_users(path)  # what is broken is not made worse
        lines = path.read_text(encoding="utf-8").splitlines() if before is not None else []
        yield lines
        _replace(path, "".join(f"{line}\n" for line in lines), before)
        os.fsync(directory)
    finally:
        os.close(directory)


def _replace(path: Path, text: str, before: os.stat_result | None) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            if before is not None:  # an API that runs as another user must still be able to read it
                if os.geteuid() == 0:
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
