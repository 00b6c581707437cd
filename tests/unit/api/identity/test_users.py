"""The users' file is used whole or not at all, and is rewritten in one step."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import bcrypt
import pytest

from portward.api.identity.users import User, hash_password, read_users, remove_user, write_user
from portward.config import ConfigurationError
from portward.model import InvalidValue

#: Of "secret".
HASH = "$2b$04$/sCBtoM65bh6B9EjoAvZuOl4lgQHMhk5/6IXHnCxZMy1xKCk6yOdG"


def user(name: str, **other: str) -> User:
    values = {"password_hash": HASH, "project_id": "p1"} | other
    return User(name=name, roles=("member",), **values)


@pytest.fixture
def users_file(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, mode: int = 0o600) -> Path:
        path = tmp_path / "users"
        path.write_text("".join(f"{line}\n" for line in lines))
        path.chmod(mode)
        return path

    return write


def test_a_line_is_a_user_and_other_lines_are_none(users_file: Callable[..., Path]) -> None:
    users = read_users(users_file("# those of p1", "", f"alice:{HASH}:p1:Member,admin", f"bob:{HASH}:p2:"))
    assert users["alice"] == User(name="alice", password_hash=HASH, project_id="p1", roles=("member", "admin"))
    assert users["bob"].roles == ()
    assert len(users) == 2


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        f"alice:{HASH}:p1",
        f"alice:{HASH}:p1:member:more",
        "alice:secret:p1:member",
        f"alice:{HASH[:-1]}:p1:member",
        f"alice:{HASH.replace('$04$', '$31$')}:p1:member",
        f"alice:{HASH}::member",
        f"alice:{HASH}:{'p' * 37}:member",
        f"alice:{HASH}:p1:mem ber",
        f":{HASH}:p1:member",
        f"al\tice:{HASH}:p1:member",
        f"first:{HASH}:p1:member",
    ],
)
def test_a_broken_line_refuses_the_file_by_its_number(users_file: Callable[..., Path], line: str) -> None:
    with pytest.raises(ConfigurationError, match="line 2"):
        read_users(users_file(f"first:{HASH}:p1:member", line))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o602])
def test_hashes_that_others_may_read_or_write_are_refused(users_file: Callable[..., Path], mode: int) -> None:
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_users(users_file(mode=mode))


def test_a_missing_file_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="portward user add"):
        read_users(tmp_path / "users")


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "users", 0o600)
    with pytest.raises(ConfigurationError, match="no regular file"):
        read_users(tmp_path / "users")


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_user(tmp_path / "users", user("alice"))
    assert stat.S_IMODE((tmp_path / "users").stat().st_mode) == 0o600
    assert read_users(tmp_path / "users") == {"alice": user("alice")}


def test_a_change_keeps_comments_the_other_users_and_the_permissions(users_file: Callable[..., Path]) -> None:
    path = users_file("# first", f"alice:{HASH}:p1:member", f"bob:{HASH}:p1:member", mode=0o640)
    write_user(path, user("alice", project_id="p2"))
    assert path.read_text().splitlines() == ["# first", f"alice:{HASH}:p2:member", f"bob:{HASH}:p1:member"]
    remove_user(path, "alice")
    assert path.read_text().splitlines() == ["# first", f"bob:{HASH}:p1:member"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["users"]


def test_a_broken_file_is_not_rewritten(users_file: Callable[..., Path]) -> None:
    path = users_file("nonsense")
    with pytest.raises(ConfigurationError, match="line 1"):
        write_user(path, user("alice"))
    assert path.read_text() == "nonsense\n"


def test_who_is_not_there_is_not_removed(users_file: Callable[..., Path]) -> None:
    with pytest.raises(InvalidValue, match="no user 'bob'"):
        remove_user(users_file(f"alice:{HASH}:p1:member"), "bob")


def test_of_many_writers_at_once_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "users"
    names = [f"user{number}" for number in range(20)]
    writers = [Thread(target=write_user, args=(path, user(name))) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(read_users(path)) == sorted(names)


@pytest.mark.parametrize("password", ["", "x" * 73, "é" * 37])
def test_a_password_that_bcrypt_would_cut_is_refused(password: str) -> None:
    with pytest.raises(InvalidValue, match="1 to 72 bytes"):
        hash_password(password)


def test_a_password_of_72_bytes_is_taken() -> None:
    assert bcrypt.checkpw(b"x" * 72, hash_password("x" * 72).encode())
