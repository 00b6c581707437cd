"""How cost grows with rules, ports and namespaces: ``python -m benchmarks.growth`` prints docs/explanation's tables.

Each line is measured in a process of its own that does what an agent does, counters included: it compiles, installs
on a bare host, and changes one rule, at any place, so that the change is in force and what it replaced is gone. The
agent's memory is what was resident of that process at most; that of the process which loads a large ruleset, and
ends, stands beside it. The kernel's is the growth of Slab, VmallocUsed and Percpu in /proc/meminfo.
"""

import argparse
import multiprocessing
import os
import random
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from benchmarks.host import host_state, routers
from benchmarks.isolation import own_mounts
from benchmarks.workloads import hard, workload
from portward.agent.ledger import Ledger
from portward.compiler import compile_rules
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.model import Action, HostState, Policy

_INSTALLS, _EDITS = 3, 7
_LOADER = b"/worker.py"
_SETTLED = 0.5  # seconds after which the kernel has freed what was deleted
_KERNEL = ("Slab:", "VmallocUsed:", "Percpu:")
_ID = str(uuid.UUID(int=1))
NAMES = ("w1", "w2", "acl")


class Case(NamedTuple):
    """One policy, shared by ``ports`` in each of the ``namespaces``."""

    workload: str  # of ``workload``, or of ``hard``
    rules: int
    ports: int = 1
    namespaces: int = 1


class Cost(NamedTuple):
    """Milliseconds, and MiB at most."""

    compile: float
    install: float
    change: float
    agent: float
    kernel: float


TABLES = {
    "Rules, one port": [Case(name, rules) for name in NAMES for rules in (10, 100, 1000, 10_000)],
    "Ports in one namespace, one policy of 100 rules": [Case("acl", 100, ports) for ports in (1, 10, 100, 1000)],
    "Namespaces of five ports, one policy of 100 rules": [
        Case("acl", 100, 5, namespaces) for namespaces in (1, 10, 50, 200)
    ],
    "Policies that are hard on purpose": [Case(name, 10_000) for name in ("wildcards", "nested", "ranges")],
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--only", metavar="TITLE", default="", help="tables whose title begins so")
    wanted = parser.parse_args().only
    if os.geteuid() != 0:
        sys.exit("namespaces need root: no table was measured")
    own_mounts()
    for title, cases in TABLES.items():
        if title.startswith(wanted):
            print(f"\n### {title}\n", flush=True)
            _print(cases)


def _print(cases: list[Case]) -> None:
    columns = ("policy", "rules", "ports", "namespaces", "compile", "install", "change a rule", "agent", "kernel")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for case in cases:
        names = [f"pw-bench-{number}" for number in range(case.namespaces)]
        with routers(names, case.ports):
            cost, loader = _apart(case, names)
        times = " | ".join(f"{taken:.0f} ms" if taken >= 10 else f"{taken:.1f} ms" for taken in cost[:3])
        memory = f"{cost.agent:.0f}" + (f" + {loader:.0f}" if loader else "") + f" MiB | {max(cost.kernel, 0):.1f} MiB"
        places = f"{case.ports * case.namespaces} | {case.namespaces}"
        print(f"| {case.workload} | {case.rules} | {places} | {times} | {memory} |", flush=True)


def _apart(case: Case, names: list[str]) -> tuple[Cost, float]:
    """What ``case`` costs in a process that did nothing before, and MiB of the largest process that this one made."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(case, names, sender))
    process.start()
    loader = 0.0
    try:
        sender.close()
        while not receiver.poll(0.005):
            loader = max(loader, *map(_loader, _children(process.pid)), 0.0)
        return receiver.recv(), loader
    finally:
        process.kill()
        process.join()


def _children(process: int | None) -> list[str]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    found: list[str] = []
    for task in tasks:
        with suppress(OSError):
            found += task.read_text().split()
    return found


def _loader(process: str) -> float:
    """MiB of a process that loads a ruleset; 0: it does not, or not yet, or has ended."""
    with suppress(OSError, IndexError):
        if _LOADER in Path(f"/proc/{process}/cmdline").read_bytes():
            return _resident(process)
    return 0.0


def _measure(case: Case, names: list[str], result: Connection) -> None:
    rules = workload(case.workload, case.rules).policy.rules if case.workload in NAMES else hard(*case[:2])
    policy = Policy(id=_ID, version=1, rules=rules)
    state = host_state(names, case.ports, [policy])
    began = time.perf_counter()
    compile_rules(rules)
    compiled = (time.perf_counter() - began) * 1000
    installs, changes, kernel = [], [], []
    for _ in range(_INSTALLS):
        time.sleep(_SETTLED)
        before = _kernel()
        with TemporaryDirectory(prefix="pw-bench-") as directory, closing(_dataplane(directory)) as dataplane:
            installs.append(_applied(dataplane, state))
            kernel.append(_kernel() - before)
            changes += [_applied(dataplane, changed) for changed in _edited(state)]
            dataplane.cleanup()
    result.send(
        Cost(
            compile=compiled,
            install=statistics.median(installs),
            change=statistics.median(changes),
            agent=_resident("self"),
            kernel=statistics.median(kernel),
        )
    )


def _dataplane(directory: str) -> NftablesDataplane:
    return NftablesDataplane(ledger=Ledger(Path(directory)))


def _edited(state: HostState) -> Iterator[HostState]:
    """The state again and again, each time with one rule turned."""
    chance = random.Random(len(state.ports))
    for generation in range(2, _EDITS + 2):
        policy = state.policies[0]
        place = chance.randrange(len(policy.rules))
        rule = policy.rules[place]
        turned = msgspec.structs.replace(rule, action=Action.ALLOW if rule.action is Action.DENY else Action.DENY)
        rules = (*policy.rules[:place], turned, *policy.rules[place + 1 :])
        policy = msgspec.structs.replace(policy, version=generation, rules=rules)
        state = msgspec.structs.replace(state, generation=generation, policies=(policy,))
        yield state


def _applied(dataplane: NftablesDataplane, state: HostState) -> float:
    began = time.perf_counter()
    report = dataplane.apply(state)
    taken = (time.perf_counter() - began) * 1000
    errors = [port.error for port in report.ports if port.error]
    if errors:
        raise RuntimeError(f"not enforced: {errors[0]}")
    return taken


def _resident(process: str) -> float:
    """MiB that were resident at most."""
    return int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def _kernel() -> float:
    """MiB of the kernel's own memory."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(_KERNEL)) / 1024


if __name__ == "__main__":
    main()
