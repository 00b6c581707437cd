"""What stands in a router namespace, as nft text: names, rule lists, epoch chains. Pure.

Protocols are numbers: nft resolves names through /etc/protocols, which a small Debian does not have.
Nothing here is a free string: names are validated device names and digests, the rest are numbers, addresses and
fixed words, so no value of the model can break out of the text. Which transaction carries what is
``change``'s business. The whole ruleset, with the reasons, is in docs/design/nftables.md.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

from portward.dataplane.lists import ListKey, Part
from portward.dataplane.nftables.epochs import Epochs
from portward.model import DCCP, ICMP, ICMPV6, SCTP, TCP, Direction, check_device_name

TABLE = "inet portward"
#: The one chain that packets enter by; it lives as long as the table.
BASE_CHAIN = "forward"
BASE_HOOK = "type filter hook forward priority filter; policy accept;"
#: Answers to rejected packets a second and port; above it, silence (design, 2.7).
REJECTS_A_SECOND = 100
#: Devices that this limit holds for at the same time. The kernel sets aside 16 bytes and more for each.
_REJECTING = 4096

_COMMENT = 120  # bytes; nft takes 128

ReversePath = Literal["strict", "loose", "off"]


# Names. Each begins with the serial number of the change that made the object, so none is ever used twice.


def name(serial: int, *parts: str) -> str:
    """The name of an object that change ``serial`` makes. ``@``, which nft does not take, becomes ``//``."""
    return "/".join([f"v{serial}", *parts]).replace("@", "//")


def device_chain(build: int, direction: Direction, device: str) -> str:
    """The chain to which the dispatch map of ``direction`` leads ``device``."""
    return name(build, direction, check_device_name(device))


def list_chain(build: int, key: ListKey) -> str:
    """The chain whose rules say which version of a list is in force."""
    return name(build, "list", key)


def version_name(serial: int, key: ListKey) -> str:
    """What the objects of a version of a list are called, and the chain by which a packet enters it."""
    return name(serial, "rules", key)


def epoch_chain(serial: int, epoch: int, epochs: Epochs) -> str:
    """The chain by which a packet enters an epoch. It tells an agent that starts which one is in force."""
    return name(serial, "epoch", str(epoch), f"{epochs.mask:x}")


Chain = tuple[str, list[str]]


def chain_text(chains: Iterable[Chain]) -> str:
    """``chains`` as the body of a table block."""
    return "".join(f"chain {title} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n" for title, lines in chains)


def owner_mark(owner: str) -> str:
    """A digest of ``owner``, the agent that a table belongs to; part of the name of a chain that does nothing."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def skeleton(build: int, owner: str) -> str:
    """The body of a table block: base chain, dispatch maps and sets, all empty, and the chains that never change.

    These say whose the table is, how it rejects, and that what is wrong with a packet counts on covered ports alone.
    """
    covered, refused = name(build, "covered"), name(build, "refused")
    over = f"limit rate over {REJECTS_A_SECOND}/second burst {REJECTS_A_SECOND} packets"
    refuse = [
        f"iifname @{covered} update @{refused} {{ iifname {over} }} drop",
        f"oifname @{covered} update @{refused} {{ oifname {over} }} drop",
        f"meta l4proto {TCP:d} reject with tcp reset",
        "reject with icmpx admin-prohibited",
    ]
    return (
        f"set {covered} {{ type ifname; }}\n"
        f"set {refused} {{ type ifname; flags dynamic,timeout; size {_REJECTING}; timeout 1m; }}\n"
        + "".join(f"map {name(build, direction)} {{ type ifname : verdict; }}\n" for direction in Direction)
        + f"chain {BASE_CHAIN} {{ {BASE_HOOK} }}\n"
        + chain_text(
            [
                (name(build, "owner", owner_mark(owner)), []),
                (name(build, "uncovered"), [f"iifname @{covered} drop", f"oifname @{covered} drop", "accept"]),
                (name(build, "refuse"), refuse),
            ]
        )
    )


_ROUTED = {"strict": "fib saddr . iif oif exists ", "loose": "fib saddr oif exists ", "off": ""}
_UNROUTED = {"strict": ["fib saddr . iif oif missing"], "loose": ["fib saddr oif missing"], "off": []}


def base_rules(serial: int, epoch: int, epochs: Epochs, reverse_path: ReversePath) -> list[str]:
    """The rules of the base chain: packets of connections accepted in this epoch go no further, others into it."""
    accepted = f"ct state established,new ct mark and {epochs.mask:#x} == {epochs.mark(epoch):#x}"
    return [f"{accepted} {_ROUTED[reverse_path]}accept", f"goto {epoch_chain(serial, epoch, epochs)}"]


def epoch_chains(build: int, serial: int, epoch: int, epochs: Epochs, reverse_path: ReversePath) -> list[Chain]:
    """The chains of an epoch: what happens to a packet before and after the lists, with the epoch's number in it.

    The first may lead to the others, not the other way round.
    """
    entry = epoch_chain(serial, epoch, epochs)
    uncovered = f"goto {name(build, 'uncovered')}"
    egress, ingress = (name(build, direction) for direction in (Direction.EGRESS, Direction.INGRESS))
    number = f"{epochs.mark(epoch):#x}"
    keep = f"ct mark set ct mark and {epochs.others:#x} or"
    # Connection tracking of DCCP and SCTP is optional in a kernel; without it one entry, and so one mark, stands for
    # all ports between two addresses. So these are judged packet by packet.
    # The protocols that most packets are of have lower numbers.
    accept = [f"meta l4proto >= {DCCP:d} goto {entry}/others", f"{keep} {number}", "accept"]
    decide = [
        *(f"{check} {uncovered}" for check in _UNROUTED[reverse_path]),
        f"ct state invalid,related jump {entry}/unusual",
        f"ct direction reply goto {entry}/reply",
        f"iifname vmap @{egress}",
        f"oifname vmap @{ingress}",
        *accept,
    ]
    unusual = [
        f"ct state invalid {uncovered}",
        f"meta l4proto {{ {ICMP:d}, {ICMPV6:d} }} ct mark and {epochs.numbers:#x} == {number} accept",
        f"meta l4proto {{ {ICMP:d}, {ICMPV6:d} }} {uncovered}",
    ]
    others = [
        f"meta l4proto {{ {DCCP:d}, {SCTP:d} }} {keep} {epochs.mark(epoch) | epochs.apart:#x}",
        f"meta l4proto != {{ {DCCP:d}, {SCTP:d} }} {keep} {number}",
        "accept",
    ]
    return [
        (entry, decide),
        (f"{entry}/reply", [f"oifname vmap @{egress}", f"iifname vmap @{ingress}", *accept]),
        (f"{entry}/unusual", unusual),
        (f"{entry}/others", others),
    ]


def list_rules(serial: int, key: ListKey) -> list[str]:
    """The rules of a list's permanent chain that lead to the version of change ``serial``."""
    version = version_name(serial, key)
    return [f"ct direction reply goto {version}/reply", f"goto {version}"]


def list_comment(parts: tuple[Part, ...]) -> str:
    """What a list is of, for people who look at its permanent chain."""
    return f'comment "{", ".join(map(str, parts))[:_COMMENT]}"'
