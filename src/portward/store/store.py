"""Transactions: who reads, who writes, in what order, and what is tried again.

Writes are serial: each first locks the one row of ``state``, so generation order is commit order and no invariant
needs a lock of its own. Reads see one snapshot and wait for nobody. What it refuses: to hide a transaction from its
owner. ``service`` functions take the session and never begin, commit or repeat.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from portward.store.engine import make_engine
from portward.store.errors import StoreError
from portward.store.tables import State

_Result = TypeVar("_Result")
#: How often a call is tried that lost to another transaction.
ATTEMPTS = 5
#: SQLite's result codes for "another connection was in the way": SQLITE_BUSY and SQLITE_LOCKED.
_IN_THE_WAY = frozenset({5, 6})


class Store:
    """The database behind ``url``; made once a process, and closed at its end. Safe to use from many threads.

    Raises:
        ConfigurationError: the URL is none that Portward can use.
        StoreError: its directory cannot be made.
    """

    def __init__(self, url: str) -> None:
        self.engine: Engine = make_engine(url)
        self._writer = self.engine.execution_options(writes=True)
        # Writers of one process queue here, in order; SQLite's own waiting is a poll with pauses.
        self._turn = threading.Lock()

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
        """What ``call`` returns, in a reading transaction."""
        with self.read() as session:
            return call(session)

    def writing(self, call: Callable[[Session], _Result], *, ordered: bool = True) -> _Result:
        """What ``call`` returns, in a writing transaction, repeated whole when another one was in the way.

        Raises:
            StoreError: others were in the way 5 times, or the database is damaged.
        """
        for _ in range(ATTEMPTS):
            try:
                with self.write(ordered=ordered) as session:
                    return call(session)
            except OperationalError as error:
                if not _lost(error):
                    raise
                last = error
        raise StoreError("the database is busy; try again") from last

    def generation(self) -> int:
        """The database's generation."""
        return self.reading(lambda session: session.scalar(select(State.generation)) or 0)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def raise_generation(session: Session) -> int:
    """The generation of this transaction, raised by the first call in it: something changed for a host."""
    transaction = session.get_transaction()
    raised = session.info.get("generation")
    if raised is None or raised[0] is not transaction:
        generation = _lock(session) + 1
        session.execute(update(State).where(State.id == 1).values(generation=generation))
        raised = session.info["generation"] = (session.get_transaction(), generation)
    return int(raised[1])


def _lock(session: Session) -> int:
    generation = session.scalar(select(State.generation).where(State.id == 1).with_for_update())
    if generation is None:
        raise StoreError("the database is damaged, restore a backup: its table state is empty")
    return generation


def _lost(error: OperationalError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _IN_THE_WAY
