"""Transactions: who reads, who writes, in what order, and what is tried again.

Writes are serial: each first locks the one row of ``state``, so generation order is commit order and no invariant
needs a lock of its own. Reads see one snapshot and wait for nobody. What it refuses: to hide a transaction from its
owner. ``service`` functions take the session and never begin, commit or repeat.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from portward.store.engine import make_engine, parse
from portward.store.errors import StoreError
from portward.store.tables import State

_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)
#: How often a call is tried that lost to another transaction, or its connection.
ATTEMPTS = 5


def _pause(attempt: int) -> None:
    """Some milliseconds, more each time, and not the same for all who lost together."""
    time.sleep(random.uniform(0, 0.005 * 2**attempt))


class Store:
    """The database behind ``url``; made once a process, and closed at its end. Safe to use from many threads.

    ``pause`` is called between two attempts of a call with the number of those made. ``repeated`` counts the attempts
    that were lost.

    Raises:
        ConfigurationError: the URL is none that Portward can use.
        StoreError: its directory cannot be made.
    """

    def __init__(self, url: str, *, pause: Callable[[int], None] = _pause) -> None:
        self._database, _ = parse(url)
        self.engine: Engine = make_engine(url)
        self._writer = self.engine.execution_options(writes=True)
        # Writers of one process queue here where the database would let them poll. A server queues them itself, and
        # across processes.
        self._turn = threading.Lock() if self._database.queues_writers else nullcontext()
        self._pause = pause
        self._counting = threading.Lock()
        self.repeated = 0

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent snapshot, and whose changes are thrown away."""
        with Session(self.engine, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self, *, ordered: bool = True) -> Iterator[Session]:
        """A session that commits when the block ends, and rolls back when it raises.

        ``ordered`` false does not take its place in the order of generations: for reports of hosts only.
        """
        with self._turn, Session(self._writer) as session, session.begin():
            if ordered:
                _lock(session)
            yield session

    def reading(self, call: Callable[[Session], _Result]) -> _Result:
        """What ``call`` returns, in a reading transaction, repeated whole as in ``writing``."""

        def attempt(_ending: list[bool]) -> _Result:
            with self.read() as session:
                return call(session)

        return self._repeat(attempt)

    def writing(self, call: Callable[[Session], _Result], *, ordered: bool = True) -> _Result:
        """What ``call`` returns, in a writing transaction, repeated whole when another one was in the way.

        Also when the connection was lost before the commit was asked for. After that nobody knows whether it was done.

        Raises:
            StoreError: that happened 5 times, the commit's outcome is unknown, or the database is damaged.
        """

        def attempt(ending: list[bool]) -> _Result:
            with self.write(ordered=ordered) as session:
                result = call(session)
                session.flush()
                ending.append(True)
                return result

        return self._repeat(attempt)

    def _repeat(self, attempt: Callable[[list[bool]], _Result]) -> _Result:
        for number in range(1, ATTEMPTS + 1):
            ending: list[bool] = []
            try:
                return attempt(ending)
            except DBAPIError as error:
                if error.connection_invalidated and ending:
                    raise StoreError("the database went away in a commit: look whether the change was made") from error
                if not error.connection_invalidated and not self._database.lost(error):
                    raise
                last = error
            with self._counting:
                self.repeated += 1
            _log.warning("transaction_repeated", attempt=number, reason=type(last.orig).__name__)
            if number < ATTEMPTS:
                self._pause(number)
        raise StoreError("the database is busy or away; try again") from last

    def generation(self) -> int:
        """The database's generation."""
        return self.reading(lambda session: session.scalar(select(State.generation)) or 0)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def raise_generation(session: Session) -> int:
    """The generation of this transaction, raised by the first call in it: something changed for a host."""
    locked = _locked(session) or _lock(session)
    if not locked.raised:
        locked.generation += 1
        locked.raised = True
        session.execute(update(State).where(State.id == 1).values(generation=locked.generation))
    return locked.generation


@dataclass
class _Locked:
    """That a transaction holds the row of ``state``, and the generation in it."""

    transaction: SessionTransaction | None
    generation: int
    raised: bool = False


def _locked(session: Session) -> _Locked | None:
    found: _Locked | None = session.info.get("locked")
    return found if found is not None and found.transaction is session.get_transaction() else None


def _lock(session: Session) -> _Locked:
    generation = session.scalar(select(State.generation).where(State.id == 1).with_for_update())
    if generation is None:
        raise StoreError("the database is damaged, restore a backup: its table state is empty")
    locked = session.info["locked"] = _Locked(session.get_transaction(), generation)
    return locked
