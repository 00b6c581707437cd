"""What nftables refuses, and namespaces that vanish: it is said, what was enforced stays, all heals with the cause."""

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import pytest

from packets.builders import ALLOW_ALL, Guard, address_set, edited, new_id, policy, rule, state_of
from packets.nftables_router import BUILDING, enforcing, nft, serial
from packets.refusals import free_descriptors, refusing
from packets.steady import steady
from packets.test_failure import NEW_DECIDES, NEW_GUARDS, OLD, OLD_DECIDES, OLD_GUARDS, decides
from packets.test_nftables_restart import bound, comes_to, ip
from portward.channel.messages import encode
from portward.dataplane.nftables import libnftables, support
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.namespace import Step
from portward.dataplane.nftables.netlink import Netlink, NetlinkError
from portward.dataplane.nftables.support import Feature, Unsupported
from portward.lab import Lab, Outcome
from portward.model import HostState

NONE = [None] * 3  # no error, of each port of the new guards


@pytest.fixture
def under_traffic(lab: Lab) -> Iterator[None]:
    """The old policies are enforced; what the new ones decide the same way is sent all the time."""
    with enforcing(lab) as enforce:
        enforce(**OLD_GUARDS)
    with steady(lab, "router", allowed=(5003, 5005), denied=(5004, 5006)):
        yield


def errors(dataplane: NftablesDataplane, wanted: HostState) -> list[str | None]:
    return [port.error for port in dataplane.apply(wanted).ports]


def take_a_name(netns: str) -> None:
    """Where the build is about to make a set, there is one of another type."""
    nft(netns, f"add map inet portward v{serial(netns) + 1}/covered {{ type ifname : mark; }}")


def take_the_new_epoch(netns: str) -> None:
    """What the switch leads to is gone."""
    listed = nft(netns, "list table inet portward")
    newest = max(re.findall(r"chain v(\d+)/(epoch/\d+/ffff) ", listed), key=lambda found: int(found[0]))
    nft(netns, f"delete chain inet portward v{'/'.join(newest)}")


def lead_to_what_is_to_go(netns: str) -> None:
    """A rule of somebody else's jumps to a chain that the build replaces."""
    oldest = min(re.findall(r"chain (v\d+/refuse)", nft(netns, "list table inet portward")))
    nft(netns, "add chain inet portward theirs")
    nft(netns, f"add rule inet portward theirs jump {oldest}")


@pytest.mark.usefixtures("under_traffic")
@pytest.mark.parametrize(
    ("after", "meddle", "reason"),
    [
        (Step.MARKS_CLEARED, take_a_name, "File exists"),
        (Step.PREPARED, take_the_new_epoch, "No such file or directory"),
        (Step.SWITCHED, lead_to_what_is_to_go, "Device or resource busy"),
    ],
    ids=["prepare", "switch", "remove"],
)
def test_what_the_kernel_itself_refuses_is_the_reason_and_heals(
    lab: Lab, after: Step, meddle: Callable[[str], None], reason: str
) -> None:
    """Another program gets in the way between two transactions of a build."""
    armed = [after]

    def on_step(step: Step) -> None:
        if step in armed:
            armed.clear()
            meddle(lab.router_netns)

    with enforcing(lab, on_step=on_step) as enforce:
        wanted = state_of(lab.ports, NEW_GUARDS, HostState(generation=0))
        said = errors(enforce.dataplane, wanted)
        assert [reason in (error or "") for error in said] == [True] * 3, said
        assert decides(lab) == (NEW_DECIDES if after is Step.SWITCHED else OLD_DECIDES)
        assert errors(enforce.dataplane, wanted) == NONE
        assert decides(lab) == NEW_DECIDES
        assert "theirs" not in nft(lab.router_netns, "list table inet portward")


def test_a_set_that_cannot_be_edited_is_the_reason_and_heals(lab: Lab) -> None:
    members = new_id()
    guards = {"blue": Guard(ingress=policy(rule("allow", "udp", 5001, source_set=members)), egress=ALLOW_ALL)}
    with enforcing(lab) as enforce:
        enforce(sets=[address_set(members)], **guards)
        wanted = state_of(lab.ports, guards, enforce.state, [address_set(members, *lab.red.addresses)])
        with mock.patch.object(Netlink, "transaction", side_effect=NetlinkError(errno.ENOMEM)):
            (said,) = errors(enforce.dataplane, wanted)
        assert "Cannot allocate memory" in (said or "")
        assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is Outcome.SILENT
        assert errors(enforce.dataplane, wanted) == [None]
        assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is Outcome.PASSED


@pytest.fixture
def namespace() -> Iterator[str]:
    """A name for a namespace with a device ``qr-1``."""
    name = f"qrouter-{new_id()}"
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False)


def make(namespace: str) -> None:
    ip("netns", "add", namespace)
    ip("-n", namespace, "link", "add", "qr-1", "type", "veth", "peer", "name", "p0")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("step", BUILDING)
def test_a_namespace_that_vanishes_in_the_middle_of_a_change_is_told_and_enforced_when_it_is_back(
    namespace: str, step: Step
) -> None:
    vanished: list[Step] = []

    def vanish(reached: Step) -> None:
        if reached is step and not vanished:
            ip("netns", "del", namespace)
            vanished.append(reached)

    before = descriptors()
    dataplane = NftablesDataplane(on_step=vanish)
    make(namespace)
    wanted = bound(namespace)
    dataplane.apply(wanted)
    assert vanished
    assert comes_to(dataplane, wanted, lambda r: r.ports[0].error == f"namespace {namespace} does not exist")
    make(namespace)
    assert comes_to(dataplane, wanted, lambda report: report.ports[0].error is None)
    assert '"qr-1" : jump' in nft(namespace, "list table inet portward")
    dataplane.close()
    assert descriptors() == before


@pytest.mark.usefixtures("under_traffic")
def test_without_a_free_descriptor_a_namespace_says_so_and_others_go_on(lab: Lab, namespace: str) -> None:
    """At every number of descriptors that are free, so at every place where one is needed; none is lost on the way."""
    make(namespace)
    before = descriptors()
    with enforcing(lab) as enforce:
        mine = enforce(**OLD_GUARDS)
        wanted = HostState(generation=9, ports=(*mine.ports, *bound(namespace).ports), policies=mine.policies)
        opened = descriptors()
        said: list[str | None] = []
        while len(said) < 20 and said[-1:] != [None]:
            with free_descriptors(len(said)):
                *ours, theirs = errors(enforce.dataplane, wanted)
            said.append(theirs)
            assert descriptors() in (opened, opened + 5), "a namespace takes five, and no more"
            assert len(said) < 3 or ours == [None, None]  # even to look what they are takes two
        assert said[-1] is None, said
        assert len(said) > 3
        assert all("Too many open files" in (error or "") for error in said[:-1]), said
        assert '"qr-1" : jump' in nft(namespace, "list table inet portward")
    assert descriptors() == before


def test_what_an_earlier_agent_filters_ends_once_its_namespace_can_be_seen(lab: Lab) -> None:
    """No port is covered, so none can say that it is still filtered: the dataplane asks to be called again."""
    with enforcing(lab) as enforce:
        enforce(blue=Guard())
    with enforcing(lab) as enforce:
        with free_descriptors(3):
            enforce.dataplane.apply(HostState(generation=1))
        assert enforce.dataplane.unfinished()
        with refusing(Step.REMOVED):
            enforce.dataplane.apply(HostState(generation=1))
        assert enforce.dataplane.unfinished()
        enforce.dataplane.apply(HostState(generation=1))
        assert not enforce.dataplane.unfinished()
    assert "portward" not in nft(lab.router_netns, "list ruleset")


@pytest.mark.usefixtures("under_traffic")
def test_an_error_in_one_namespace_that_nobody_thought_of_is_that_namespaces_alone(lab: Lab, namespace: str) -> None:
    make(namespace)
    bugs: list[Exception] = []

    def fail(_: Step) -> None:
        if bugs:
            raise bugs.pop()

    with enforcing(lab, on_step=fail) as enforce:
        mine = state_of(lab.ports, NEW_GUARDS, HostState(generation=0))
        wanted = HostState(generation=9, ports=(*bound(namespace).ports, *mine.ports), policies=mine.policies)
        bugs.append(MemoryError())
        assert errors(enforce.dataplane, wanted) == [f"no memory is left for the rules of namespace {namespace}", *NONE]
        assert decides(lab) == NEW_DECIDES
        bugs.append(ZeroDivisionError())
        assert errors(enforce.dataplane, wanted) == ["internal error of the dataplane; the agent's log has it", *NONE]
        assert errors(enforce.dataplane, wanted) == [None, *NONE]


@pytest.mark.usefixtures("under_traffic")
@pytest.mark.parametrize("missing", ["a word that this nft does not know", "something that this kernel does not have"])
def test_an_nftables_or_a_kernel_that_is_too_old_is_the_reason_and_touches_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    commands = (
        "add rule inet t c meta newer"
        if "word" in missing
        else "add chain inet t n { type nat hook ingress priority 0; }"
    )
    monkeypatch.setattr(support, "FEATURES", (*support.FEATURES, Feature("the newer thing", commands)))
    wanted = state_of(lab.ports, NEW_GUARDS, HostState(generation=0))
    with enforcing(lab) as enforce:
        for _ in range(2):
            with pytest.raises(Unsupported, match=r"the newer thing cannot be used .* nftables 1\.0\.6 or newer"):
                enforce.dataplane.apply(wanted)
            assert decides(lab) == OLD_DECIDES
        monkeypatch.undo()
        assert errors(enforce.dataplane, wanted) == NONE
        assert decides(lab) == NEW_DECIDES


@pytest.mark.usefixtures("under_traffic")
def test_without_libnftables_the_version_that_is_needed_is_the_reason(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    libnftables._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", without_libnftables)
    wanted = state_of(lab.ports, NEW_GUARDS, HostState(generation=0))
    with enforcing(lab) as enforce:
        with pytest.raises(Unsupported, match=r"libnftables\.so\.1 is missing: install nftables 1\.0\.6 or newer"):
            enforce.dataplane.apply(wanted)
        assert decides(lab) == OLD_DECIDES
        monkeypatch.undo()
        assert errors(enforce.dataplane, wanted) == NONE
        assert decides(lab) == NEW_DECIDES


def without_libnftables(name: str | None, **options: bool) -> ctypes.CDLL:
    """As ``ctypes.CDLL`` where nftables is not installed."""
    if name == "libnftables.so.1":
        raise OSError("cannot open shared object file")
    return real_cdll(name, **options)


real_cdll = ctypes.CDLL


STARVED = """
import resource, sys
from portward.channel.messages import decode
from portward.dataplane.nftables import NftablesDataplane
from portward.model import HostState

old, new = decode(sys.stdin.buffer.read(), list[HostState])
dataplane = NftablesDataplane()
print([port.error for port in dataplane.apply(old).ports], flush=True)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (max(held + (int(sys.argv[1]) << 20), 0), resource.RLIM_INFINITY))
print([port.error for port in dataplane.apply(new).ports], flush=True)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print([port.error for port in dataplane.apply(new).ports], flush=True)
"""


@pytest.mark.usefixtures("under_traffic")
@pytest.mark.parametrize("mebibytes", [-1000, -8, 0])
def test_an_agent_that_gets_no_memory_says_so_or_dies_and_opens_nothing(lab: Lab, mebibytes: int) -> None:
    """libnftables ends the process it is in when it gets none; then the next one goes on."""
    old = state_of(lab.ports, OLD_GUARDS, HostState(generation=0))
    more = [rule("deny", "tcp", port, source=f"10.9.{port & 255}.0/24") for port in range(1, 10_001)]
    ingress = edited(OLD, *NEW_GUARDS["blue"].ingress.rules, *more)
    new = state_of(lab.ports, {**NEW_GUARDS, "blue": Guard(ingress=ingress)}, old)
    agent = subprocess.run(
        [sys.executable, "-c", STARVED, str(mebibytes)],
        input=encode([old, new]),
        timeout=120,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    said = agent.stdout.decode().splitlines()
    print(f"{mebibytes} MiB more: ended with {agent.returncode} and said {said[1:]} {agent.stderr.decode()[-300:]}")
    assert said[0] == str([None, None])
    if agent.returncode == 0:
        assert "None" not in said[1]
        assert said[2] == str(NONE)
        assert decides(lab) == NEW_DECIDES
    else:
        assert decides(lab) == OLD_DECIDES
        with enforcing(lab) as enforce:
            enforce(**NEW_GUARDS)
            assert decides(lab) == NEW_DECIDES
