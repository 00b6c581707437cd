"""Agents that count: each is one life with a ledger on disk, and may die at a step of a change."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from packets.enforcer import Enforcer
from packets.nftables_router import enforcing
from portward.agent.ledger import Ledger
from portward.channel.messages import Total, decode, encode
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab
from portward.model import HostState, Rule


class Counting:
    """One life of an agent on the router of a lab, and what it says was counted."""

    def __init__(self, enforce: Enforcer, ledger: Ledger) -> None:
        self.enforce = enforce
        self.ledger = ledger

    def totals(self) -> dict[str, Total]:
        """What an agent reads when it is time, and keeps."""
        self.ledger.add(self.enforce.dataplane.counters())
        assert self.ledger.save()
        return self.ledger.totals()

    def packets(self, *rules: Rule) -> list[int]:
        """How often each of ``rules`` decided so far."""
        totals = self.totals()
        return [totals[rule.id].packets if rule.id in totals else 0 for rule in rules]


@contextmanager
def counting(lab: Lab, directory: Path) -> Iterator[Counting]:
    """A life that goes on from what is in ``directory``; nothing is written at its end, as if it were killed."""
    ledger = Ledger(directory)
    ledger.load()
    with enforcing(lab, ledger=ledger) as enforce:
        yield Counting(enforce, ledger)


def count_and_die(directory: Path, states: Sequence[HostState], step: Step) -> bool:
    """An agent in a process of its own enforces ``states``; did it kill itself when it came to ``step`` in the last?"""
    child = subprocess.run(
        [sys.executable, "-m", __name__, str(directory), step],
        input=encode(list(states)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert child.returncode in (0, -signal.SIGKILL)
    return child.returncode == -signal.SIGKILL


def _agent(directory: Path, step: Step) -> None:
    armed = False

    def on_step(reached: Step) -> None:
        if armed and reached is step:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger = Ledger(directory)
    ledger.load()
    dataplane = NftablesDataplane(ledger=ledger, on_step=on_step)
    states = decode(sys.stdin.buffer.read(), list[HostState])
    for wanted in states:
        armed = wanted is states[-1]
        report = dataplane.apply(wanted)
        assert [port for port in report.ports if port.error] == []


if __name__ == "__main__":
    _agent(Path(sys.argv[1]), Step(sys.argv[2]))
