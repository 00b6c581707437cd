"""A program in the same database that takes locks in another order than Portward's writers, and so their deadlocks.

Portward's own transactions hardly ever do: each writer first locks the one row of ``state``. What is tried again after
a lost transaction would hardly ever be seen, were it not for this one. All that it does is rolled back.
"""

import threading
from types import TracebackType
from typing import Self

from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from portward.store import Store
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, ResourceTag, State

_PAUSE = 0.15  # seconds: so long that no call of Portward's meets it five times in a row
_WEIGHT = 200  # rows: MariaDB ends the one of two transactions that wrote less


class Stranger:
    """Runs in a thread of its own, inside a ``with`` block."""

    def __init__(self, store: Store) -> None:
        self._engine = store.engine.execution_options(writes=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failures: list[BaseException] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        assert self._failures == []

    def _run(self) -> None:
        try:
            while not self._stop.wait(_PAUSE):
                self._be_in_the_way()
        except BaseException as error:
            self._failures.append(error)

    def _be_in_the_way(self) -> None:
        with self._engine.connect() as connection, connection.begin() as transaction:
            try:
                if connection.dialect.name == "postgresql":
                    # Whoever waits this long looks for a deadlock, and is its victim: let it be the others.
                    connection.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
                rows = [{"resource_id": "stranger", "tag": str(number)} for number in range(_WEIGHT)]
                connection.execute(insert(ResourceTag), rows)
                for table in (FirewallGroup, FirewallPolicy, FirewallRule):
                    connection.execute(select(table.id).with_for_update())
                connection.execute(select(State.id).with_for_update())
            except DBAPIError:
                pass  # it was the victim itself
            finally:
                transaction.rollback()
