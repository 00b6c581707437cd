"""On SQLite there is one server, and beside it the ``portward`` command and whoever else opens the file.

Proven is what ``test_replicas`` proves, for one replica, while other processes write to the same file; and that what
those were told is stored is there. SQLite tells nobody who waits, so a conflict is counted where it is met: by a writer
that asks for the write lock and would not wait for it.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import select

from concurrency.machine import Machine
from concurrency.replicas import Replica, cloud
from concurrency.test_replicas import SETTINGS
from portward.store import upgrade
from portward.store.tables import Host

_INSERT = (
    "INSERT INTO hosts (name, token_hash, created_at, realised_generation) "
    "VALUES (:name, :name, '2026-01-01 00:00:00.000000', 0)"
)


class Writer:
    """Another program that writes to the file, again and again, and keeps what was acknowledged."""

    def __init__(self, file: Path, replica: Replica) -> None:
        self.hosts: list[str] = []
        self.met = 0
        self._file = file
        self._replica = replica
        self._stop = threading.Event()
        self._failures: list[BaseException] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Writes by hand, and by the command, until the end of the block."""
        threads = [threading.Thread(target=self._guard, args=(call,)) for call in (self._by_hand, self._by_command)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        assert self._failures == []

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self._failures.append(error)

    def _by_hand(self) -> None:
        connection = sqlite3.connect(self._file, timeout=0, isolation_level=None)
        while not self._stop.wait(0.02):
            name = f"by-hand-{len(self.hosts)}"
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                self.met += 1
                continue
            connection.execute(_INSERT, {"name": name})
            connection.execute("COMMIT")
            self.hosts.append(name)
        connection.close()

    def _by_command(self) -> None:
        number = 0
        while not self._stop.wait(1.5):
            number += 1
            self._replica.run("host", "add", f"by-command-{number}")
            self.hosts.append(f"by-command-{number}")


def test_calls_at_once_end_as_one_after_another_beside_other_writers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "portward.db"
    url = f"sqlite:///{file}"
    upgrade(url)
    with cloud(tmp_path, url, lambda: 0, replicas=1) as one:
        writer = Writer(file, one.replicas[0])

        class Here(Machine):
            cloud = one

        with writer.at_work():
            run_state_machine_as_test(Here, settings=settings(SETTINGS, stateful_step_count=4))
        stored = set(one.store.reading(lambda session: list(session.scalars(select(Host.name)))))
        assert set(writer.hosts) <= stored
        with capsys.disabled():
            print(
                f"\nsqlite: {one.calls} calls compared; {writer.met} conflicts met (the write lock was held), "
                f"{one.repeated()} lost and retried; {len(writer.hosts)} writes of other processes"
            )
        assert writer.met > 0, "the write lock was never held when another process asked: this did not race"
