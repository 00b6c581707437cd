"""The agent as a process, with its API: killed at every step, and refused at every step, while packets flow."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from demo.processes import Portward
from packets.nftables_router import BUILDING, epoch, nft
from packets.refusals import REASON
from packets.test_nftables_failure import nothing_wrong
from packets.test_whole_way import FWAAS, PASSED, SILENT, add_port, change, make, status, tcp
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab

OLD, NEW = (PASSED, SILENT), (SILENT, PASSED)


class Mortal(Portward):
    """With an agent that dies, or is refused, when a file says so."""

    def _spawn(self, name: str, log: BinaryIO) -> "subprocess.Popen[bytes]":
        if name != "agent":
            return super()._spawn(name, log)
        return subprocess.Popen(
            [sys.executable, "-m", "packets.mortal_agent", self.directory, "--config", self.config, "agent"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environment
            | {"PORTWARD_AGENT__TOKEN": self.token, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def tell(self, file: str, step: str) -> None:
        """Let the agent die at ``step``, or refuse it."""
        (self.directory / file).write_text(step)

    def wait_until_dead(self) -> None:
        """The agent has killed itself."""
        assert self._running["agent"].wait(20) == -signal.SIGKILL
        del self._running["agent"]


class Guarded:
    """Red's way to blue: UDP to 5003 is always allowed, TCP to 22, which ``close`` changes to 80."""

    def __init__(self, portward: Mortal, lab: Lab) -> None:
        self.portward, self.lab = portward, lab
        self.rule = make(portward, "rules", protocol="tcp", destination_port=22, action="allow")
        steady = make(portward, "rules", protocol="udp", destination_port=5003, action="allow")
        policy = make(portward, "policies", name="in", firewall_rules=[self.rule, steady])
        blue = add_port(portward, lab, "blue")
        self.group = make(portward, "groups", name="guard", ports=[blue], ingress_firewall_policy_id=policy)

    def change(self) -> None:
        change(self.portward, "rules", self.rule, destination_port="80")

    def decides(self) -> tuple[object, object]:
        return tcp(self.lab, 22), tcp(self.lab, 80)

    def objects(self) -> int:
        listed = nft(self.lab.router_netns, "list table inet portward")
        return len(re.findall(r"^\t(?:chain|map|set) ", listed, re.MULTILINE))

    def reasons(self) -> list[str]:
        told = self.portward.ask("GET", f"{FWAAS}/firewall_groups/{self.group}/realisation")["realisation"]
        return [port["error"] for port in told["ports"]]


@pytest.fixture
def portward(tmp_path: Path) -> Iterator[Mortal]:
    portward = Mortal(tmp_path)
    try:
        portward.start_api()
        yield portward
    finally:
        portward.stop()


@pytest.fixture
def guarded(portward: Mortal, lab: Lab) -> Iterator[Guarded]:
    """Enforced, and under traffic until the test ends."""
    guarded = Guarded(portward, lab)
    portward.start_agent()
    portward.wait_until_realised()
    assert guarded.decides() == OLD
    flows = [
        lab.red.flow(lab.blue.address(), port, source_port=source_port)
        for port, source_port in ((5003, 40003), (5004, 40004), (5006, None))
    ]
    with lab.red.stream(flows, rate=3_000) as stream:
        yield guarded
        nothing_wrong(stream, passing={5003})


@pytest.mark.parametrize("step", [Step.PREPARED, Step.SWITCHED, "counted", Step.REMOVED])
def test_the_agent_killed_in_the_middle_of_a_change_leaks_nothing_and_the_next_one_finishes_it(
    portward: Mortal, guarded: Guarded, step: str
) -> None:
    before = guarded.objects()
    portward.tell("die", step)
    guarded.change()
    portward.wait_until_dead()
    assert guarded.decides() == (OLD if step == Step.PREPARED else NEW)
    portward.restart_agent()
    portward.wait_until_realised()
    assert guarded.decides() == NEW
    assert guarded.objects() == before, "something was left behind"


@pytest.mark.parametrize("step", [*BUILDING, "counted"])
def test_the_agent_killed_as_it_takes_over_leaks_nothing_and_the_next_one_finishes_it(
    portward: Mortal, guarded: Guarded, step: str
) -> None:
    before = guarded.objects()
    portward.kill("agent")
    guarded.change()
    portward.tell("die", step)
    portward.start_agent()
    portward.wait_until_dead()
    portward.restart_agent()
    portward.wait_until_realised()
    assert guarded.decides() == NEW
    assert guarded.objects() == before, "something was left behind"


@pytest.mark.parametrize("step", [Step.PREPARED, Step.SWITCHED, Step.REMOVED])
def test_a_refusal_is_the_reason_of_the_port_and_its_group_and_heals_without_being_told(
    portward: Mortal, guarded: Guarded, step: str
) -> None:
    portward.tell("refuse", step)
    guarded.change()
    portward.wait("agent", "is in error", lambda: status(portward, guarded.group) == "ERROR", 20)
    (reason,) = guarded.reasons()
    assert REASON in reason
    assert guarded.decides() == (NEW if step == Step.REMOVED else OLD)
    (portward.directory / "refuse").unlink()
    gone = time.monotonic()
    portward.wait("agent", "has healed", lambda: status(portward, guarded.group) == "ACTIVE", 20)
    print(f"healed {time.monotonic() - gone:.1f} s after the cause was gone")
    assert guarded.decides() == NEW
    assert guarded.reasons() == [None]


@pytest.fixture
def small_disk(portward: Mortal) -> Iterator[Path]:
    """The agent's state directory on a disk of its own."""
    directory = portward.directory / "agent"
    directory.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs", str(directory)], check=True)
    yield directory
    portward.stop()
    subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """A file that leaves no room for another byte."""
    filler = directory / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_stops_no_change_and_what_is_enforced_is_kept_once_there_is_room(
    portward: Mortal, small_disk: Path, guarded: Guarded
) -> None:
    filler = fill(small_disk)
    guarded.change()
    portward.wait_until_realised()
    assert guarded.decides() == NEW
    assert not (small_disk / "state.json").exists(), "a restart would go back to what was in force before"
    filler.unlink()
    portward.wait("agent", "keeps its state", lambda: (small_disk / "state.json").exists(), 20)
    portward.kill("api")
    portward.kill("agent")
    before = epoch(guarded.lab.router_netns)
    portward.restart_agent()
    assert epoch(guarded.lab.router_netns) == before + 1, "it had nothing to enforce"
    assert guarded.decides() == NEW
