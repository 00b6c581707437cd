"""The rows ``host.*``: how fast an agent protects a host that it finds bare, what memory that takes, and how long a
new namespace is open.

The agent is a process of its own that finds a state on disk and no API, as after a boot without a network: what it
then does is what it does with a state from the API, without the wait for it.
"""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.peers import copies
from benchmarks.row import Row, Skipped, figures, recorded
from benchmarks.workloads import workload
from portward.agent.state_file import StateFile
from portward.dataplane.netns import DIRECTORY, in_namespace
from portward.dataplane.nftables.libnftables import Nft, NftError
from portward.model import Binding, CoveredPort, Group, HostState, Policy, Port, PortKind

_COLD, _MEMORY, _PLUG = "host.cold_start", "host.memory", "router.plug_to_protected"
_PORTS, _RULES, _POLICIES, _REPEATS, _PLUGGED = 1000, 100, 10, 5, 20
_TABLE = "inet portward"
_NEUTRON = recorded(150_000, 180_000, source="neutron's L3 agent, 50 ports, recorded")
_PATIENCE = 120.0  # seconds


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: the caller is not root.
    """
    if not any(map(wanted, (_COLD, _MEMORY, _PLUG))):
        return
    if os.geteuid() != 0:
        raise Skipped("namespaces need root")
    for count in (1, 200):
        with routers([f"pw-bench-{number}" for number in range(count)], _PORTS // count) as names:
            state = host_state(names, _PORTS // count, policies())
            if wanted(_COLD) or wanted(_MEMORY):
                yield from _cold(tell, names, state)
            if wanted(_PLUG):
                tell(f"{_PLUG} namespaces={count}")
                yield Row(
                    key=_PLUG, unit="ms", params={"namespaces": count}, portward=figures(_plugged(names), tail=True)
                )


def _cold(tell: Callable[[str], None], names: list[str], state: HostState) -> Iterator[Row]:
    started, enforced, memory, copied = [], [], [], []
    for number in range(_REPEATS):
        tell(f"{_COLD} namespaces={len(names)} {number + 1} of {_REPEATS}")
        with Agent(state) as agent:
            started.append(agent.ready())
            enforced.append(agent.enforced(state))
            memory.append(agent.memory())
        _strip(names)
        if len(names) == 1:
            copied.append(_copies(names[0], state))
    params = {"namespaces": len(names), "ports": _PORTS, "rules": _RULES, "policies": _POLICIES}
    times = {"nft, a copy a port": figures([taken for taken, _ in copied])} if copied else {}
    sizes = {"nft, a copy a port": figures([size for _, size in copied])} if copied else {}
    yield Row(
        key=_COLD,
        unit="ms",
        params={**params, "of": "dataplane"},
        portward=figures(enforced),
        peers={**times, "neutron": _NEUTRON},
    )
    yield Row(
        key=_COLD,
        unit="ms",
        params={**params, "of": "agent"},
        portward=figures(started),
        peers={"neutron": _NEUTRON},
    )
    yield Row(key=_MEMORY, unit="MiB", params=params, portward=figures(memory), peers=sizes)


def _plugged(names: list[str]) -> list[float]:
    """Milliseconds from the call that makes a namespace until its table stands and decides, for some of them."""
    new = [f"pw-bench-new-{number}" for number in range(_PLUGGED)]
    each = _PORTS // len(names)
    first = host_state(names, each, policies())
    late = host_state(new, 1, policies(), first=_PORTS)
    state = msgspec.structs.replace(first, ports=first.ports + late.ports)
    taken = []
    with Agent(state) as agent:
        agent.ready()
        for name in new:
            began = time.perf_counter()
            with routers([name], 1):
                _wait(lambda name=name: _filters(name), f"protection of {name}")  # type: ignore[misc]
                taken.append((time.perf_counter() - began) * 1000)
    _strip(names)
    return taken


def policies() -> tuple[Policy, ...]:
    """Policies of about a hundred rules, of all workloads."""
    cases = [workload(("w1", "w2", "acl")[number % 3], _RULES + number // 3) for number in range(_POLICIES)]
    return tuple(
        Policy(id=str(uuid.UUID(int=number + 1)), version=1, rules=case.policy.rules)
        for number, case in enumerate(cases)
    )


def host_state(names: Sequence[str], each: int, made: Sequence[Policy], *, first: int = 0) -> HostState:
    """``each`` ports in each of the namespaces ``names``, which use the policies ``made`` in turn."""
    ports = [
        CoveredPort(
            port=Port(
                id=str(uuid.UUID(int=first + number + 1)),
                kind=PortKind.ROUTER,
                binding=Binding(netns=name, device=f"qr-{place}"),
            ),
            groups=(
                Group(
                    id=made[number % len(made)].id,
                    ingress_policy_id=made[number % len(made)].id,
                    egress_policy_id=made[number % len(made)].id,
                ),
            ),
        )
        for number, (name, place) in enumerate(itertools.product(names, range(each)))
    ]
    return HostState(generation=1, ports=tuple(ports), policies=tuple(made))


@contextmanager
def routers(names: list[str], devices: int) -> Iterator[list[str]]:
    """Namespaces with devices ``qr-0`` and so on."""
    links = "".join(f"link add qr-{number} type ifb\n" for number in range(devices))
    try:
        _ip(["-batch", "-"], "".join(f"netns add {name}\n" for name in names))
        for name in names:
            _ip(["-n", name, "-batch", "-"], links)
        yield names
    finally:
        there = [name for name in names if (DIRECTORY / name).exists()]
        _ip(["-batch", "-"], "".join(f"netns delete {name}\n" for name in there))


def _ip(arguments: list[str], text: str) -> None:
    subprocess.run(["ip", *arguments], input=text, text=True, check=True)


class Agent:
    """``portward agent`` with ``state`` on disk, and an API that nobody runs."""

    def __init__(self, state: HostState) -> None:
        self._exit = contextlib.ExitStack()
        try:
            self._directory = Path(self._exit.enter_context(TemporaryDirectory(prefix="pw-bench-")))
            StateFile(self._directory / "state").save(state)
            config = self._directory / "portward.toml"
            config.write_text(
                f'[agent]\nhost = "bench"\napi = "http://127.0.0.1:9"\ntoken = "none"\n'
                f'state_dir = "{self._directory}/state"\n'
            )
            self._told = self._exit.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            self._told.bind(str(self._directory / "notify"))
            self._told.settimeout(_PATIENCE)
            log = self._exit.enter_context((self._directory / "log").open("wb"))
            environment = {key: value for key, value in os.environ.items() if not key.startswith("PORTWARD_")}
            self._began = time.perf_counter()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "portward", "--config", str(config), "agent"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment | {"NOTIFY_SOCKET": str(self._directory / "notify")},
            )
            self._exit.callback(self._process.wait)
            self._exit.callback(self._process.terminate)
        except BaseException:
            self._exit.close()
            raise

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def ready(self) -> float:
        """Milliseconds from its start until it has enforced its state and says so."""
        self._told.recv(100)
        return (time.perf_counter() - self._began) * 1000

    def enforced(self, state: HostState) -> float:
        """Milliseconds that its dataplane took for ``state``.

        Raises:
            RuntimeError: not all of it is enforced.
        """
        lines = map(json.loads, (self._directory / "log").read_text().splitlines())
        told = next(line for line in lines if line["event"] == "enforced")
        if told["in_error"] or told["ports"] != len(state.ports):
            raise RuntimeError(f"not all ports are enforced: {told}")
        return float(told["milliseconds"])

    def memory(self) -> float:
        """MiB that were resident at most."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _copies(name: str, state: HostState) -> tuple[float, float]:
    """Milliseconds and MiB of nft, that gives each port a copy of its policy; Portward's table is not there."""
    rules = {policy.id: policy for policy in state.policies}
    text = copies(
        {covered.port.binding.device: rules[covered.groups[0].id] for covered in state.ports if covered.port.binding}
    )
    with TemporaryDirectory(prefix="pw-bench-") as directory:
        path = Path(directory) / "copies.nft"
        path.write_text(text)
        began = time.perf_counter()
        process = subprocess.Popen(["ip", "netns", "exec", name, "nft", "-f", str(path)])
        _, status, usage = os.wait4(process.pid, 0)
        taken = (time.perf_counter() - began) * 1000
    if status:
        raise RuntimeError("nft refused copies of a policy")
    _delete(name, "inet peer")
    return taken, usage.ru_maxrss / 1024


def _strip(names: list[str]) -> None:
    """Leave the namespaces as bare as they were."""
    for name in names:
        _delete(name, _TABLE)


def _delete(name: str, table: str) -> None:
    with in_namespace(name, Nft) as nft:
        nft.run(f"delete table {table}")


def _filters(name: str) -> bool:
    with in_namespace(name, Nft) as nft, contextlib.suppress(NftError):
        return "goto" in nft.run(f"list chain {_TABLE} forward")
    return False


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} within {_PATIENCE} s")
        time.sleep(0.001)
