"""Transactions, their order, and what is tried again."""

import sqlite3
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from portward.store import Store, StoreError, raise_generation
from portward.store.store import ATTEMPTS


def _busy() -> OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("UPDATE", {}, error)


def test_a_transaction_raises_the_generation_once(store: Store) -> None:
    with store.write() as session:
        assert raise_generation(session) == raise_generation(session) == 1
    with store.write() as session:
        assert raise_generation(session) == 2
    assert store.generation() == 2


def test_one_session_raises_the_generation_in_each_of_its_transactions(store: Store) -> None:
    with Session(store.engine.execution_options(writes=True)) as session:
        raise_generation(session)
        session.commit()
        assert raise_generation(session) == 2
        session.commit()


def test_what_raises_leaves_nothing_behind(store: Store) -> None:
    def call(session: Session) -> None:
        raise_generation(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.writing(call)
    assert store.generation() == 0


def test_foreign_keys_are_enforced(store: Store) -> None:
    with store.read() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_generations_of_concurrent_writers_are_all_different(store: Store, url: str, processes: int) -> None:
    """A second store on the same file is to the first what another process is."""
    stores = [store] if processes == 1 else [store, Store(url)]
    seen: list[int] = []

    def write(to: Store) -> None:
        seen.extend(to.writing(raise_generation) for _ in range(10))

    threads = [threading.Thread(target=write, args=(stores[number % processes],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in stores[1:]:
        other.close()
    assert sorted(seen) == list(range(1, 81))


def test_a_call_that_lost_to_another_transaction_is_repeated_whole(store: Store) -> None:
    attempts = []

    def call(session: Session) -> int:
        attempts.append(1)
        generation = raise_generation(session)
        if len(attempts) < ATTEMPTS:
            raise _busy()
        return generation

    assert store.writing(call) == 1
    assert len(attempts) == ATTEMPTS


def test_a_database_that_stays_busy_is_said_to_be_busy(store: Store) -> None:
    def call(_session: Session) -> None:
        raise _busy()

    with pytest.raises(StoreError, match="busy"):
        store.writing(call)


def test_other_errors_of_the_database_are_not_repeated(store: Store) -> None:
    attempts = []

    def call(session: Session) -> None:
        attempts.append(1)
        session.execute(text("SELECT * FROM nothing"))

    with pytest.raises(OperationalError):
        store.writing(call)
    assert len(attempts) == 1


def test_a_database_that_lost_its_row_of_state_is_said_to_be_damaged(store: Store) -> None:
    store.writing(lambda session: session.execute(text("DELETE FROM state")), ordered=False)
    with pytest.raises(StoreError, match="restore a backup"):
        store.writing(raise_generation)
