"""What the tests of the nftables dataplane share: looks into a router's namespace, and steps of a change."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from packets.builders import both, policy
from packets.enforcer import Enforcer
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables.namespace import Step
from portward.dataplane.nftables.netlink import DUMP, NETFILTER, Netlink, attributes
from portward.lab import Lab
from portward.model import Policy


@contextmanager
def enforcing(lab: Lab, **options: Any) -> Iterator[Enforcer]:
    """An agent's dataplane with ``options``; what it enforces stays when it is closed."""
    enforcer = Enforcer(lab, **options)
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


def serial(netns: str) -> int:
    """The number of the build in force: the newest."""
    return max(map(int, re.findall(r"\bv(\d+)/", nft(netns, "list table inet portward"))))


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
