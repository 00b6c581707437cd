"""Live connections of every kind under a change: which must end with it, which must not notice it."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from portward.lab import Connection, Host
from portward.model import Address

PERIOD = 0.005  # seconds between two messages of a connection
BEFORE, AFTER = 20, 40  # messages that each connection sends before and after a change
_DEADLINE = 10.0

KINDS = [(protocol, push) for protocol in ("tcp", "udp") for push in ("client", "server")]


@dataclass
class Flow:
    """One connection, and what is expected of it."""

    name: str
    connection: Connection
    kept: bool
    sent_at_change: int = 0


class Flows:
    """Connections that all push messages all the time; a context manager that closes them."""

    def __init__(self) -> None:
        self._flows: list[Flow] = []
        self._stop = threading.Event()
        self._rounds = 0
        self._thread = threading.Thread(target=self._push, name="flows")

    def open(self, client: Host, destination: Address, ports: Iterable[int], *, kept: bool) -> None:
        """Open connections of every kind from ``client`` to each of ``ports``."""
        for port in ports:
            for protocol, push in KINDS:
                name = f"{protocol} {client.name} -> {destination} port {port}, {push} pushes"
                self._flows.append(Flow(name, client.connect(protocol, destination, port, push=push), kept))

    def change(self, change: Callable[[], object]) -> None:
        """Make ``change`` while all connections are busy; what must end ends, and what must not loses nothing."""
        if not self._thread.is_alive():
            self._thread.start()
        self._wait_rounds(BEFORE)
        for flow in self._flows:
            assert flow.connection.last_arrived > 0, f"{flow.name} never carried anything"
        change()
        for flow in self._flows:
            flow.sent_at_change = flow.connection.sent
        self._wait_rounds(AFTER)
        self._finish()
        problems = [problem for flow in self._flows for problem in _problems(flow)]
        assert problems == [], "\n".join(problems)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()
        for flow in self._flows:
            flow.connection.close()

    def _push(self) -> None:
        while not self._stop.wait(PERIOD):
            for flow in self._flows:
                flow.connection.push()
            self._rounds += 1

    def _wait_rounds(self, rounds: int) -> None:
        wanted, deadline = self._rounds + rounds, time.monotonic() + _DEADLINE
        while self._rounds < wanted:
            assert time.monotonic() < deadline, "the pushing thread does not get on"
            time.sleep(PERIOD)

    def _finish(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()


def _problems(flow: Flow) -> list[str]:
    connection = flow.connection
    if not flow.kept:
        late = connection.last_arrived - flow.sent_at_change
        return [f"{flow.name}: should be cut, and {late} messages passed after it"] if late > 0 else []
    _wait_arrival(connection)
    problems = []
    if connection.arrived != connection.sent:
        problems.append(f"{flow.name}: should be kept, and lost {connection.sent - connection.arrived} messages")
    if connection.protocol == "tcp" and connection.retransmitted:
        problems.append(f"{flow.name}: should be kept, and lost {connection.retransmitted} segments")
    return problems


def _wait_arrival(connection: Connection) -> None:
    deadline = time.monotonic() + 1
    while connection.arrived < connection.sent and time.monotonic() < deadline:
        time.sleep(PERIOD)
