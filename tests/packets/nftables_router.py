"""What the tests of the nftables dataplane share: looks into a router's namespace, and agents that die."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from packets.builders import both, policy
from packets.enforcer import Enforcer
from portward.channel.messages import decode, encode
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.namespace import Step
from portward.dataplane.nftables.netlink import DUMP, NETFILTER, Netlink, attributes
from portward.lab import Lab
from portward.model import HostState, Policy


@contextmanager
def enforcing(lab: Lab, **options: Any) -> Iterator[Enforcer]:
    """An agent's dataplane with ``options``; what it enforces stays when it is closed."""
    enforcer = Enforcer(lab)
    enforcer.dataplane.close()
    enforcer.dataplane = NftablesDataplane(**options)
    yield enforcer
    enforcer.dataplane.close()


def udp(*ports: int) -> Policy:
    """A policy that allows UDP to ``ports``, of both IP versions, and nothing else."""
    return policy(*(both("allow", "udp", port) for port in ports))


def nft(netns: str, command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", netns, "nft", *command.split()], capture_output=True, text=True, check=True
    )
    return done.stdout


def ruleset(netns: str) -> str:
    """Our table, without the serial numbers and the elements that traffic adds."""
    text = re.sub(r"elements = \{[^}]*limit[^}]*\}", "", nft(netns, "list table inet portward"))
    return re.sub(r"\bv\d+/", "v*/", text)


def epoch(netns: str) -> int:
    """The epoch in force."""
    match = re.search(r"goto v\d+/epoch/(\d+)/", nft(netns, "list chain inet portward forward"))
    assert match
    return int(match[1])


def epochs(netns: str) -> set[int]:
    """The epochs of all chains that are there, in force or left by a change that died."""
    return {int(number) for number in re.findall(r"chain v\d+/epoch/(\d+)/", nft(netns, "list table inet portward"))}


def generation_id(netns: str) -> int:
    """How often anybody committed anything to the namespace's nftables."""
    with in_namespace(netns, lambda: Netlink(NETFILTER)) as netlink:
        (answer,) = netlink.request(10 << 8 | 16, bytes(4))  # NFT_MSG_GETGEN
    return int.from_bytes(answer[8:12], "big")


def marks(netns: str) -> dict[int, set[int]]:
    """The marks of a namespace's connections, by the destination port of the first packet."""
    with in_namespace(netns, lambda: Netlink(NETFILTER)) as netlink:
        answers = netlink.request(1 << 8 | 1, bytes(4), DUMP)  # IPCTNL_MSG_CT_GET
    found: dict[int, set[int]] = {}
    for answer in answers:
        fields = attributes(answer[4:])
        protocol = attributes(attributes(fields[1])[2])  # CTA_TUPLE_ORIG, CTA_TUPLE_PROTO
        port = int.from_bytes(protocol.get(3, b""), "big")  # CTA_PROTO_DST_PORT
        found.setdefault(port, set()).add(int.from_bytes(fields.get(8, b""), "big"))  # CTA_MARK
    return found


#: The steps of a namespace that is built; only a change edits a set in place.
BUILDING = tuple(step for step in Step if step is not Step.EDITED)


def apply_and_die(states: Sequence[HostState], step: Step, *, armed: int = -1, ct_mark_mask: int = 0xFFFF) -> bool:
    """An agent in a process of its own enforces ``states`` one after the other; did it die on the way?

    It kills itself when it comes to ``step`` in the state with index ``armed`` or a later one.
    """
    child = subprocess.run(
        [sys.executable, "-m", __name__, step, str(armed % len(states)), str(ct_mark_mask)],
        input=encode(list(states)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert child.returncode in (0, -signal.SIGKILL)
    return child.returncode == -signal.SIGKILL


def _agent(step: Step, armed: int, ct_mark_mask: int) -> None:
    at = 0

    def on_step(reached: Step) -> None:
        if reached is step and at >= armed:
            os.kill(os.getpid(), signal.SIGKILL)

    dataplane = NftablesDataplane(ct_mark_mask=ct_mark_mask, on_step=on_step)
    for at, wanted in enumerate(decode(sys.stdin.buffer.read(), list[HostState])):  # noqa: B007 - on_step reads it
        report = dataplane.apply(wanted)
        assert [port for port in report.ports if port.error] == []


if __name__ == "__main__":
    _agent(Step(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
