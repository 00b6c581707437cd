"""``/healthz``: whether the database answers, told to anybody."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from portward.api import health
from portward.store import Store
from wire.conftest import serving, settings


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Both listeners of a server whose database is in ``tmp_path``."""
    with serving(settings(tmp_path)) as both:
        yield both


def ask(url: str, method: str = "GET") -> httpx2.Response:
    return httpx2.request(method, f"{url}/healthz", trust_env=False, timeout=20)


def test_both_listeners_are_well_without_asking_who_asks(urls: tuple[str, str]) -> None:
    for url in urls:
        answer = ask(url)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_health_takes_get_alone(urls: tuple[str, str]) -> None:
    assert [ask(url, "POST").status_code for url in urls] == [405, 405]


def test_a_broken_database_is_503_without_its_words_and_well_again_when_it_is(
    urls: tuple[str, str], tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "portward.db") as connection:
        connection.execute("ALTER TABLE state RENAME TO lost")
    for url in urls:
        answer = ask(url)
        assert answer.status_code == 503
        assert answer.json() == {
            "status": "unavailable",
            "reason": "the database cannot be read; see the server's log",
        }
    with sqlite3.connect(tmp_path / "portward.db") as connection:
        connection.execute("ALTER TABLE lost RENAME TO state")
    connection.close()
    assert [ask(url).status_code for url in urls] == [200, 200]


def test_a_database_that_hangs_is_503_in_time_and_asked_once_by_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, asked = threading.Event(), []

    def hang(_self: Store) -> int:
        asked.append(1)
        go_on.wait(20)
        return 1

    monkeypatch.setattr(health, "PATIENCE", 0.3)
    monkeypatch.setattr(Store, "generation", hang)
    with serving(settings(tmp_path)) as (url, _):
        try:
            answers = [ask(url) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [503] * 3
            assert "does not answer within" in answers[0].json()["reason"]
            assert len(asked) == 1
        finally:
            go_on.set()
