"""Constant UDP traffic, counted where it leaves and where it arrives.

Sending is done by a process of its own (``sender``), counting by nft: so "nothing lost" and "nothing leaked" are
said by the kernel about every packet. What arrives is dropped once counted.
"""

import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from portward.dataplane.netns import in_namespace
from portward.lab import sender
from portward.lab.counters import Counters, Place
from portward.lab.errors import LabError
from portward.lab.namespaces import python
from portward.lab.sender import Flow, Plan

_SETTLED = 0.05  # seconds without another arrival, after the last packet was sent
_PATIENCE = 5.0


class Count(NamedTuple):
    """Packets of one flow."""

    sent: int
    received: int


class Stream:
    """Flows from one host to another; a context manager that stops them. Make it with ``Host.stream``."""

    def __init__(self, source: str, destination: str, flows: Sequence[Flow], rate: int) -> None:
        """Send ``flows`` from namespace ``source``, ``rate`` packets a second in all, count at ``destination``.

        Raises:
            LabError: two flows would be counted as one, or the sender does not start.
        """
        self.flows = tuple(flows)
        matches = {f"flow_{number}": _match(flow) for number, flow in enumerate(self.flows)}
        if len(set(matches.values())) != len(matches):
            raise LabError("each flow of a stream needs a destination address and port of its own")
        self._counters = [
            Counters(source, Place.SENT, matches),
            Counters(destination, Place.ARRIVED, matches, drop=True),
        ]
        self._child = in_namespace(source, self._start)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(msgspec.json.encode(Plan(flows=self.flows, rate=rate), enc_hook=str) + b"\n")
        self._child.stdin.flush()
        if self._child.stdout.readline() != b"ready\n":
            self.close()
            raise LabError("the sender of a stream ended instead of sending")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def counts(self) -> list[Count]:
        """What was sent and what arrived so far, by the order of ``flows``."""
        sent, received = (counter.packets() for counter in self._counters)
        return [Count(sent[name], received[name]) for name in (f"flow_{i}" for i in range(len(self.flows)))]

    def stop(self) -> list[Count]:
        """Stop sending; the final counts, once everything under way has arrived."""
        self._stop_sending()
        counts, deadline = self.counts(), time.monotonic() + _PATIENCE
        while True:
            time.sleep(_SETTLED)
            settled, counts = counts, self.counts()
            if settled == counts or time.monotonic() > deadline:
                return counts

    def close(self) -> None:
        """Stop sending and counting."""
        self._stop_sending()
        while self._counters:
            self._counters.pop().remove()

    def _stop_sending(self) -> None:
        if self._child.stdin is not None and not self._child.stdin.closed:
            self._child.stdin.close()
        self._child.wait(timeout=_PATIENCE)
        if self._child.stdout is not None:
            self._child.stdout.close()

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(python(sender.__name__), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")


def _match(flow: Flow) -> str:
    family = "ip6" if flow.destination.version == 6 else "ip"
    return f"{family} daddr {flow.destination} udp dport {flow.port}"
