"""A password is compared once, known for a while, and a change of the file counts at once."""

import threading
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import bcrypt
import pytest
import structlog

from portward.api.errors import Unauthenticated
from portward.api.identity import http_basic
from portward.api.identity.caller import Caller, with_implied
from portward.api.identity.users import User, remove_user, write_user

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_user(tmp_path / "users", User(name="alice", password_hash=HASH, project_id="p1", roles=("member",)))
    return tmp_path / "users"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes that passwords were compared with."""
    hashes: list[bytes] = []
    compare = http_basic._compare

    def noting(password: bytes, hash_: bytes) -> bool:
        hashes.append(hash_)
        return compare(password, hash_)

    monkeypatch.setattr(http_basic, "_compare", noting)
    return hashes


def basic(user: str = "alice", password: str = "secret") -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def run(steps: Callable[[], Awaitable[None]]) -> None:
    anyio.run(steps)


def test_the_right_password_is_compared_once_as_long_as_the_users_line_stays(path: Path, compared: list[bytes]) -> None:
    identify = http_basic.make_identify(path)
    other = User(name="bob", password_hash=HASH, project_id="p2", roles=())

    async def steps() -> None:
        expected = Caller(project_id="p1", roles=frozenset({"member", "reader"}), user="alice")
        for _ in range(3):
            assert await identify(basic()) == expected
        write_user(path, other)
        assert await identify(basic()) == expected
        assert len(compared) == 1
        write_user(path, User(name="alice", password_hash=HASH, project_id="p3", roles=("reader",)))
        assert await identify(basic()) == Caller(project_id="p3", roles=frozenset({"reader"}), user="alice")
        assert len(compared) == 2

    run(steps)


def test_a_wrong_password_is_compared_each_time(path: Path, compared: list[bytes]) -> None:
    identify = http_basic.make_identify(path)

    async def steps() -> None:
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await identify(basic(password="guess"))
        assert len(compared) == 2

    run(steps)


def test_an_unknown_user_costs_what_a_known_one_costs(path: Path, compared: list[bytes]) -> None:
    identify = http_basic.make_identify(path)

    async def steps() -> None:
        with pytest.raises(Unauthenticated):
            await identify(basic(user="nobody"))
        assert [hash_[:7] for hash_ in compared] == [HASH.encode()[:7]]

    run(steps)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !",
        "Basic YWxpY2U=",
        "Bearer YWxpY2U6c2VjcmV0",
        "Basic " + b64encode(b"alice:").decode(),
        "Basic " + b64encode(b"\xff:secret").decode(),
        "Basic " + b64encode(b"alice:sec\0ret").decode(),
        "Basic é",
    ],
)
def test_a_header_that_shows_no_user_is_refused(path: Path, header: str) -> None:
    identify = http_basic.make_identify(path)

    async def steps() -> None:
        with pytest.raises(Unauthenticated) as refused:
            await identify({"authorization": header})
        assert refused.value.challenge == 'Basic realm="portward"'

    run(steps)


def test_a_password_that_bcrypt_would_cut_is_refused_with_its_reason(path: Path, compared: list[bytes]) -> None:
    identify = http_basic.make_identify(path)

    async def steps() -> None:
        with pytest.raises(Unauthenticated, match="at most 72 bytes"):
            await identify(basic(password="secret".ljust(73, "x")))
        assert compared == []

    run(steps)


def test_a_user_who_is_removed_or_has_a_new_password_is_refused_at_once(path: Path) -> None:
    identify = http_basic.make_identify(path)
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()

    async def steps() -> None:
        await identify(basic())
        write_user(path, User(name="alice", password_hash=other, project_id="p1", roles=()))
        with pytest.raises(Unauthenticated):
            await identify(basic())
        assert (await identify(basic(password="other"))).roles == frozenset()
        remove_user(path, "alice")
        with pytest.raises(Unauthenticated):
            await identify(basic(password="other"))

    run(steps)


def test_a_file_that_breaks_under_way_changes_nothing_and_is_logged_once(path: Path) -> None:
    identify = http_basic.make_identify(path)
    good = path.read_text()

    async def steps() -> None:
        path.write_text(good + "nonsense\n")
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                assert (await identify(basic())).user == "alice"
        assert [line["event"] for line in logs] == ["users_file_refused"]
        assert HASH not in str(logs)
        path.write_text(good.replace("alice", "bob"))
        assert (await identify(basic(user="bob"))).user == "bob"

    run(steps)


def test_wrong_passwords_take_no_thread_from_the_requests(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()

    def compare(_password: bytes, _hash: bytes) -> bool:
        return not stuck.wait(20)

    monkeypatch.setattr(http_basic, "_compare", compare)
    identify = http_basic.make_identify(path)

    async def guess(number: int) -> None:
        with pytest.raises((Unauthenticated, http_basic.TooManyLogins)):
            await identify(basic(password=f"guess {number}"))

    async def steps() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(guess, number)
            await anyio.wait_all_tasks_blocked()
            assert limiter.borrowed_tokens == 0
            with pytest.raises(http_basic.TooManyLogins):
                await identify(basic(password="one more"))
            stuck.set()

    run(steps)


def test_many_first_requests_of_one_user_cost_one_comparison(path: Path, compared: list[bytes]) -> None:
    identify = http_basic.make_identify(path)
    arrived: list[str] = []

    async def come() -> None:
        arrived.append((await identify(basic())).user)

    async def steps() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(come)
        assert (arrived, len(compared)) == (["alice"] * 50, 1)

    run(steps)


def test_wrong_passwords_for_one_name_or_for_unknown_ones_keep_nobody_else_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_user(path, User(name="bob", password_hash=HASH, project_id="p2", roles=()))
    stuck, compare = threading.Event(), http_basic._compare

    def slow(password: bytes, hash_: bytes) -> bool:
        stuck.wait(20)
        return compare(password, hash_)

    monkeypatch.setattr(http_basic, "_compare", slow)
    identify = http_basic.make_identify(path)
    arrived: list[str] = []

    async def guess(user: str, number: int) -> None:
        with pytest.raises((Unauthenticated, http_basic.TooManyLogins)):
            await identify(basic(user=user, password=f"guess {number}"))

    async def come() -> None:
        arrived.append((await identify(basic(user="bob"))).user)

    async def steps() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(guess, "alice", number)
                tasks.start_soon(guess, f"stranger{number}", number)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(come)
            await anyio.wait_all_tasks_blocked()
            stuck.set()
        assert arrived == ["bob"]

    run(steps)


@pytest.mark.parametrize(
    ("given", "implied"),
    [
        (["Admin"], {"admin", "member", "reader"}),
        (["member"], {"member", "reader"}),
        (["READER", "auditor"], {"reader", "auditor"}),
        ([], set()),
    ],
)
def test_admin_implies_member_implies_reader(given: list[str], implied: set[str]) -> None:
    assert with_implied(given) == implied
