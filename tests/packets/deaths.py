"""Where an agent may die in a change, by the kind of port; a dataplane that dies there, in a process of its own.

A death is SIGKILL: nothing is closed, said or undone.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

from packets.enforcer import dataplane_of
from portward.channel.messages import decode, encode
from portward.dataplane.nftables.namespace import Step
from portward.dataplane.openvswitch import bridge
from portward.dataplane.openvswitch.openflow import OpenflowConnection
from portward.lab import Lab
from portward.model import HostState

#: Of a change of flows: the switch has got one half of the messages that are to be obeyed together, or not at all.
HALF_SENT = "half sent"
_BUNDLE_CONTROL = 33

#: Every place where an agent may die, and whether the change is in force by then.
DEATHS = (
    ("router", Step.PREPARED, False),
    ("router", Step.SWITCHED, True),
    ("router", Step.REMOVED, True),
    ("vm", HALF_SENT, False),
    ("vm", bridge.Step.COMMITTED, True),
    ("vm", bridge.Step.REALISED, True),
)


@contextmanager
def halving(reached: Callable[[str], None]) -> Iterator[None]:
    """``reached(HALF_SENT)`` is called in the middle of what makes up a change of flows."""
    send = OpenflowConnection._send

    def send_half(connection: OpenflowConnection, data: bytes, deadline: float) -> None:
        if data[1] != _BUNDLE_CONTROL:
            send(connection, data, deadline)
            return
        half = len(data) // 2
        send(connection, data[:half], deadline)
        reached(HALF_SENT)
        send(connection, data[half:], deadline)

    with mock.patch.object(OpenflowConnection, "_send", send_half):
        yield


def apply_and_die(lab: Lab, states: Sequence[HostState], step: str, *, armed: int = -1, **options: int) -> bool:
    """An agent in a process of its own enforces ``states`` one after the other; did it die on the way?

    It kills itself when it comes to ``step`` in the state with index ``armed`` or a later one. ``options`` are its
    dataplane's.
    """
    child = subprocess.run(
        [sys.executable, "-m", __name__, lab.name, step, str(armed % len(states)), json.dumps(options)],
        input=encode(list(states)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert child.returncode in (0, -signal.SIGKILL)
    return child.returncode == -signal.SIGKILL


def _agent(lab: Lab, step: str, armed: int, options: dict[str, int]) -> None:
    at = 0

    def on_step(reached: str) -> None:
        if reached == step and at >= armed:
            os.kill(os.getpid(), signal.SIGKILL)

    dataplane = dataplane_of(lab, on_step=on_step, **options)
    with halving(on_step):
        for at, wanted in enumerate(decode(sys.stdin.buffer.read(), list[HostState])):  # noqa: B007 - on_step reads it
            report = dataplane.apply(wanted)
            assert [port for port in report.ports if port.error] == []


if __name__ == "__main__":
    _agent(Lab.open(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
