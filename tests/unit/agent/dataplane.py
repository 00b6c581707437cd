"""A dataplane that enforces nothing but remembers what it is told, and fails where a test wants it to."""

import contextlib
import os
import threading
from collections.abc import Collection

from portward.dataplane.protocol import Reading
from portward.model import HostState, PortReport, Report


class FakeDataplane:
    """Keeps the state that is in force, and all that were. ``errors`` by port id; ``failure`` is raised.

    ``left_undone``: what no port can speak for.
    """

    def __init__(self) -> None:
        self.applied: list[HostState] = []
        self.errors: dict[str, str] = {}
        self.unmentioned: set[str] = set()
        self.failure: Exception | None = None
        self.left_undone = False
        self.counted: list[Reading] = []
        self.gate = threading.Event()  # cleared: ``apply`` does not return
        self.gate.set()
        self.busy = threading.Event()  # ``apply`` has been entered
        self._changed = os.eventfd(0, os.EFD_NONBLOCK)

    @property
    def in_force(self) -> HostState | None:
        """What it enforces."""
        return self.applied[-1] if self.applied else None

    def touch(self) -> None:
        """Something on the host changed."""
        os.eventfd_write(self._changed, 1)

    def apply(self, state: HostState) -> Report:
        """Enforce ``state``."""
        self.busy.set()
        assert self.gate.wait(10)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._changed)
        if self.failure is not None:
            raise self.failure
        self.applied.append(state)
        ids = [covered.port.id for covered in state.ports if covered.port.id not in self.unmentioned]
        reports = [PortReport(port_id=id_, error=self.errors.get(id_)) for id_ in ids]
        return Report(generation=state.generation, ports=tuple(reports))

    def watched(self) -> Collection[int]:
        """One descriptor."""
        return (self._changed,)

    def unfinished(self) -> bool:
        """Whether something was left undone."""
        return self.left_undone

    def counters(self) -> Collection[Reading]:
        """What ``counted`` says."""
        return tuple(self.counted)

    def cleanup(self) -> tuple[str, ...]:
        """Forget everything."""
        lines = tuple(f"port {covered.port.id} is open" for covered in (self.in_force or HostState(generation=0)).ports)
        self.applied.clear()
        return lines

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._changed)
