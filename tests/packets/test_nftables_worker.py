"""Large loads, in a process of their own: it does the same, its errors are told, and its death is safe."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from packets.builders import Guard, policy, rule, state_of
from packets.nftables_router import enforcing, nft, ruleset
from packets.test_nftables_failure import (
    NEW_DECIDES,
    NEW_GUARDS,
    NONE,
    OLD_DECIDES,
    OLD_GUARDS,
    decides,
    errors,
    under_traffic,
)
from portward.channel.messages import encode
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables import libnftables, namespace, worker
from portward.dataplane.nftables.libnftables import Nft, NftError, load
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab, Outcome
from portward.model import HostState, Rule

__all__ = ["under_traffic"]

#: A worker like ours, but what the test puts in place of {before} and {after} its work.
_WORKER = """
import os, signal, sys, time
sys.path.insert(0, {directory!r})
import worker
{before}
status = worker.main(int(sys.argv[1]))
{after}
sys.exit(status)
"""
_DIE = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small, each transaction is run in a process of its own."""
    monkeypatch.setattr(namespace, "_BIG_LOAD", 0)


def write_worker(directory: Path, *, before: str = "", after: str = "") -> Path:
    script = directory / "odd_worker.py"
    script.write_text(_WORKER.format(directory=str(Path(worker.__file__).parent), before=before, after=after))
    return script


def only_at(step: Step, marks: Path, do: str) -> str:
    """``do``, in the worker of ``step`` alone: prepare is the first, switch the second, and so on; once."""
    number = [Step.PREPARED, Step.SWITCHED, Step.REMOVED].index(step)
    return (
        f"import pathlib; m = pathlib.Path({str(marks)!r}); n = int(m.read_text()); m.write_text(str(n + 1))\n"
        f"if n == {number}: {do}"
    )


@pytest.mark.usefixtures("apart", "under_traffic")
def test_what_is_loaded_apart_is_as_what_is_loaded_here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with enforcing(lab) as enforce:
        enforce(**OLD_GUARDS)
        assert decides(lab) == OLD_DECIDES
        enforce(**NEW_GUARDS)
        assert decides(lab) == NEW_DECIDES
        apart = len(ruleset(lab.router_netns).splitlines())
    monkeypatch.undo()
    with enforcing(lab) as enforce:
        enforce(**OLD_GUARDS)
        enforce(**NEW_GUARDS)
    assert len(ruleset(lab.router_netns).splitlines()) == apart


@pytest.mark.usefixtures("apart", "under_traffic")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [Step.PREPARED, Step.SWITCHED, Step.REMOVED])
def test_a_worker_killed_before_or_after_its_work_is_an_error_that_heals(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: Step, when: str
) -> None:
    """Killed after it, nobody knows that the work is done but the kernel."""
    with enforcing(lab) as enforce:
        wanted = state_of(lab.ports, NEW_GUARDS, enforce(**OLD_GUARDS))
        (tmp_path / "marks").write_text("0")
        deadly = only_at(step, tmp_path / "marks", _DIE)
        monkeypatch.setattr(libnftables, "_WORKER", write_worker(tmp_path, **{when: deadly}))
        said = errors(enforce.dataplane, wanted)
        assert ["was killed: Killed" in (error or "") for error in said] == [True] * 3, said
        in_force = step is Step.REMOVED or (step is Step.SWITCHED and when == "after")
        assert decides(lab) == (NEW_DECIDES if in_force else OLD_DECIDES)
        assert errors(enforce.dataplane, wanted) == NONE
        assert decides(lab) == NEW_DECIDES
        healed = len(ruleset(lab.router_netns).splitlines())
    with enforcing(lab) as afresh:
        afresh(**NEW_GUARDS)
    assert len(ruleset(lab.router_netns).splitlines()) == healed, "something was left behind"


@pytest.mark.usefixtures("apart", "under_traffic")
@pytest.mark.parametrize("step", [Step.PREPARED, Step.SWITCHED, Step.REMOVED])
def test_a_worker_dies_with_its_agent_and_changes_nothing_any_more(lab: Lab, tmp_path: Path, step: Step) -> None:
    """Else it would change the table under the feet of the agent that comes next."""
    with enforcing(lab) as enforce:
        wanted = state_of(lab.ports, NEW_GUARDS, enforce(**OLD_GUARDS))
    (tmp_path / "marks").write_text("0")
    pid = tmp_path / "pid"
    script = write_worker(
        tmp_path, before=only_at(step, tmp_path / "marks", f"pid = pathlib.Path({str(pid)!r})") + SLOW_LIBRARY
    )
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(script)],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert agent.stdin is not None
        agent.stdin.write(encode(wanted))
        agent.stdin.close()
        until(lambda: pid.exists() and pid.read_text() != "")
        before = nft(lab.router_netns, "-s list table inet portward")
    finally:
        agent.kill()
        agent.wait()
    until(lambda: not running(int(pid.read_text())))
    assert nft(lab.router_netns, "-s list table inet portward") == before
    with enforcing(lab) as afresh:
        afresh(**NEW_GUARDS)
        assert decides(lab) == NEW_DECIDES


#: So that a worker is as long as one likes between what it does first and its work.
SLOW_LIBRARY = """
import ctypes
real = ctypes.CDLL
def slow(name):
    if name is not None and "pid" in globals():
        pid.write_text(str(os.getpid()))
        time.sleep(60)
    return real(name)
ctypes.CDLL = slow
"""
AGENT = """
import sys
from pathlib import Path
from portward.channel.messages import decode
from portward.dataplane.nftables import NftablesDataplane, libnftables, namespace
from portward.model import HostState
namespace._BIG_LOAD = 0
libnftables._WORKER = Path(sys.argv[1])
NftablesDataplane().apply(decode(sys.stdin.buffer.read(), HostState))
"""


def until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_worker_whose_starter_is_gone_before_it_looks_does_nothing(lab: Lab) -> None:
    command = [sys.executable, "-I", "-S", worker.__file__, "1"]
    done = in_namespace(
        lab.router_netns, lambda: subprocess.run(command, input=b"add table inet portward\n", check=False)
    )
    assert done.returncode == 1
    assert "portward" not in nft(lab.router_netns, "list ruleset")


@pytest.mark.parametrize("text", ["add table inet\n", "add chain inet pw-missing c\n"])
def test_what_nftables_says_apart_is_what_it_says_here(lab: Lab, text: str) -> None:
    said = []
    for run in (load, lambda text: Nft().run(text)):
        with pytest.raises(NftError, match=r"nftables refused: .*Error") as raised:
            in_namespace(lab.router_netns, lambda run=run: run(text))
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_a_load_that_does_not_end_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libnftables, "_WORKER", write_worker(tmp_path, before="time.sleep(60)"))
    monkeypatch.setattr(libnftables, "_PATIENCE", 0.2)
    with pytest.raises(NftError, match="was killed"):
        in_namespace(lab.router_netns, lambda: load("add table inet portward\n"))


def test_ten_thousand_rules_leave_little_memory_behind_in_the_agent(lab: Lab) -> None:
    state = state_of(lab.ports, {"blue": Guard(ingress=policy(*long_list()))}, HostState(generation=0))
    measured = subprocess.run(
        [sys.executable, "-c", FLIPS],
        input=encode(state),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    base, left = map(int, measured.stdout.split())
    print(f"resident: {base} MiB with the rules in hand, {left} MiB after they were changed six times")
    assert left - base < 40
    assert lab.red.probe("tcp", lab.blue.address(), 1000).outcome is Outcome.SILENT


def long_list() -> list[Rule]:
    """10,000 rules for which maps are made."""
    return [
        rule(("allow", "deny")[n % 3 == 0], "tcp", f"{1000 + n}:{1010 + n}", source=f"10.{n >> 8}.{n & 255}.0/24")
        for n in range(10_000)
    ]


FLIPS = """
import sys
import msgspec
from portward.channel.messages import decode
from portward.dataplane.nftables import NftablesDataplane
from portward.model import HostState

def resident():
    return int(open("/proc/self/statm").read().split()[1]) // 256

state = decode(sys.stdin.buffer.read(), HostState)
dataplane, base = NftablesDataplane(), resident()
for version in range(1, 7):
    (policy,) = state.policies
    turned = msgspec.structs.replace(policy, version=version, rules=policy.rules[::-1])
    state = msgspec.structs.replace(state, generation=version, policies=(turned,))
    (report,) = dataplane.apply(state).ports
    assert report.error is None, report
print(base, resident())
"""
