"""What stands in a router namespace, as nft text: names, rule lists, epoch chains. Pure.

Protocols are numbers: nft resolves names through /etc/protocols, which a small Debian does not have.
Nothing here is a free string: names are validated device names and digests, the rest are numbers, addresses and
fixed words, so no value of the model can break out of the text. Which transaction carries what is
``change``'s business. The whole ruleset, with the reasons, is in docs/design/nftables.md.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import msgspec

from portward.dataplane.nftables.epochs import Epochs
from portward.model import (
    DCCP,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    Action,
    CoveredPort,
    Direction,
    IPVersion,
    Policy,
    PortRange,
    Prefix,
    Rule,
    Stratum,
    check_device_name,
    check_id,
)

TABLE = "inet portward"
#: The one chain that packets enter by; it lives as long as the table and holds one rule.
BASE_CHAIN = "forward"
BASE_HOOK = "type filter hook forward priority filter; policy accept;"
#: Answers to rejected packets a second and port; above it, silence (design, 2.7).
REJECTS_A_SECOND = 100

_COMMENT = 120  # bytes; nft takes 128

ReversePath = Literal["strict", "loose", "off"]


class Part(NamedTuple):
    """What one group puts into a list: the enabled rules of its policy, or, when ``closed``, that all is denied."""

    stratum: Stratum
    policy_id: str | None = None
    rules: tuple[Rule, ...] = ()
    closed: bool = False

    def __str__(self) -> str:
        return f"{self.stratum} {'closed' if self.closed else self.policy_id or 'empty'}"


#: The identity of a rule list, a digest of what its content comes from: strata and states of groups, ids of policies.
ListKey = str


class RuleList(NamedTuple):
    """The list that decides for a port and a direction: parts of one stratum after those of the one before."""

    key: ListKey
    parts: tuple[Part, ...]


class DeviceLists(NamedTuple):
    """By which lists a covered device is decided."""

    egress: ListKey
    ingress: ListKey


class Wanted(msgspec.Struct, frozen=True):
    """Everything that one namespace is to enforce. Equal values: nothing is to be done."""

    devices: dict[str, DeviceLists] = {}
    lists: dict[ListKey, tuple[Part, ...]] = {}


def rule_list(covered: CoveredPort, direction: Direction, policies: Mapping[str, Policy]) -> RuleList:
    """The list that decides for packets in ``direction`` at the port (design, 2.3 and 2.4).

    Raises:
        InvalidValue: the id of a policy is no UUID.
    """
    parts = []
    strata = list(Stratum)
    for group in sorted(covered.groups, key=lambda group: (strata.index(group.stratum), group.position)):
        policy_id = group.policy_id(direction)
        if not group.admin_state_up:
            if group.stratum is not Stratum.TENANT:
                continue
            policy_id = None
        elif policy_id is None and group.stratum is not Stratum.TENANT:
            continue
        rules = policies[check_id(policy_id)].rules if policy_id is not None else ()
        enabled = tuple(rule for rule in rules if rule.enabled)
        parts.append(Part(group.stratum, policy_id, enabled, closed=not group.admin_state_up))
    return _rule_list(*parts)


def deny_all() -> RuleList:
    """The list of a device that two ports claim: nobody can say which of them is right, so nothing passes."""
    return _rule_list(Part(Stratum.TENANT, closed=True))


def _rule_list(*parts: Part) -> RuleList:
    return RuleList(hashlib.sha256(", ".join(map(str, parts)).encode()).hexdigest()[:16], parts)


# Names. Each begins with the serial number of the change that made the object, so none is ever used twice.


def name(serial: int, *parts: str) -> str:
    """The name of an object that change ``serial`` makes. ``@``, which nft does not take, becomes ``//``."""
    return "/".join([f"v{serial}", *parts]).replace("@", "//")


def device_chain(build: int, direction: Direction, device: str) -> str:
    """The chain to which the dispatch map of ``direction`` leads ``device``."""
    return name(build, direction, check_device_name(device))


def list_chain(build: int, key: ListKey) -> str:
    """The chain whose one rule says which version of a list is in force."""
    return name(build, "list", key)


def version_chain(serial: int, key: ListKey) -> str:
    """The chain by which a packet enters a version of a list."""
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
    """The body of a table block: base chain, dispatch maps and sets, all empty, whose it is, and how it rejects."""
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
        f"set {refused} {{ type ifname; flags dynamic,timeout; size 65535; timeout 1m; }}\n"
        + "".join(f"map {name(build, direction)} {{ type ifname : verdict; }}\n" for direction in Direction)
        + f"chain {BASE_CHAIN} {{ {BASE_HOOK} }}\n"
        + chain_text([(name(build, "owner", owner_mark(owner)), []), (name(build, "refuse"), refuse)])
    )


def epoch_chains(build: int, serial: int, epoch: int, epochs: Epochs, reverse_path: ReversePath) -> list[Chain]:
    """The chains of an epoch: what happens to a packet before and after the lists, with the epoch's number in it."""
    entry = epoch_chain(serial, epoch, epochs)
    covered = name(build, "covered")
    egress, ingress = (name(build, direction) for direction in (Direction.EGRESS, Direction.INGRESS))
    accept = [f"ct mark set ct mark and {epochs.others:#x} or {epochs.mark(epoch):#x}", "accept"]
    check = {"strict": ["fib saddr . iif oif missing drop"], "loose": ["fib saddr oif missing drop"], "off": []}
    # Connection tracking of DCCP and SCTP is optional in a kernel; without it one entry, and so one mark, stands for
    # all ports between two addresses. So these are judged packet by packet.
    accepted = f"ct mark and {epochs.mask:#x} == {epochs.mark(epoch):#x}"
    icmp_error = f"ct state related meta l4proto {{ {ICMP:d}, {ICMPV6:d} }}"
    decide = [
        *check[reverse_path],
        f"ct state established,new {accepted} meta l4proto != {{ {DCCP:d}, {SCTP:d} }} accept",
        f"{icmp_error} {accepted} accept",
        "ct state invalid drop",
        f"{icmp_error} drop",
        f"ct direction reply goto {entry}/reply",
        f"iifname vmap @{egress}",
        f"oifname vmap @{ingress}",
        *accept,
    ]
    return [
        (f"{entry}/reply", [f"oifname vmap @{egress}", f"iifname vmap @{ingress}", *accept]),
        (f"{entry}/decide", decide),
        (entry, [f"iifname @{covered} goto {entry}/decide", f"oifname @{covered} goto {entry}/decide", "accept"]),
    ]


def list_chains(build: int, serial: int, key: ListKey, parts: tuple[Part, ...]) -> list[Chain]:
    """The permanent chain of a list, in force at the version of change ``serial``; it says what the list is of."""
    comment = ", ".join(map(str, parts))[:_COMMENT]
    return [(list_chain(build, key), [f'comment "{comment}"', f"goto {version_chain(serial, key)}"])]


def version_chains(build: int, serial: int, key: ListKey, parts: tuple[Part, ...]) -> list[Chain]:
    """The chains of one version of a list. Allowed is ``return``, behind the dispatch; the end is the list's."""
    entry = version_chain(serial, key)
    end = "drop" if any(part.stratum is Stratum.TENANT for part in parts) else "return"
    strata = list(dict.fromkeys(part.stratum for part in parts))
    if not any(part.rules for part in parts):
        return [(entry, [end])]
    chains: list[Chain] = []
    for version, reply in ((4, False), (4, True), (6, False), (6, True)):
        titles = [_segment(entry, version, reply, stratum) for stratum in strata]
        for stratum, title, following in zip(strata, titles, [*titles[1:], None], strict=True):
            onward = f"goto {following}" if following else end
            verdicts = {
                Action.ALLOW: "return",
                Action.DENY: "drop",
                Action.REJECT: f"goto {name(build, 'refuse')}",
                Action.PASS: onward,
            }
            lines: list[str] = []
            for part in parts:
                if part.stratum is stratum:
                    lines += [
                        " ".join([*matches(rule, reply=reply), verdicts[rule.action]])
                        for rule in part.rules
                        if rule.ip_version == version
                    ]
                    lines += ["drop"] * part.closed
            chains.append((title, [*lines, onward]))
    heads = {
        reply: [
            f"meta nfproto ipv4 goto {_segment(entry, 4, reply, strata[0])}",
            f"goto {_segment(entry, 6, reply, strata[0])}",
        ]
        for reply in (False, True)
    }
    chains.append((f"{entry}/reply", heads[True]))
    chains.append((entry, [f"ct direction reply goto {entry}/reply", *heads[False]]))
    return chains


def _segment(entry: str, version: IPVersion | int, reply: bool, stratum: Stratum) -> str:
    return "/".join([entry, str(version), *(["reply"] if reply else []), stratum])


def matches(rule: Rule, *, reply: bool) -> Iterator[str]:
    """The matches of ``rule``, its IP version aside; ``reply``: as its packets' answers look, fields swapped."""
    family = "ip" if rule.ip_version == 4 else "ip6"
    source, destination = ("daddr", "saddr") if reply else ("saddr", "daddr")
    for field, prefix in ((source, rule.source), (destination, rule.destination)):
        if prefix is not None and prefix.prefixlen:
            yield f"{family} {field} {_address(prefix)}"
    if rule.protocol is not None:
        yield f"meta l4proto {rule.protocol:d}"
    source, destination = ("dport", "sport") if reply else ("sport", "dport")
    for field, ports in ((source, rule.source_port), (destination, rule.destination_port)):
        if ports is not None and (ports.first, ports.last) != (0, 65535):
            yield f"th {field} {_ports(ports)}"


def _address(prefix: Prefix) -> str:
    return str(prefix.network_address) if prefix.prefixlen == prefix.max_prefixlen else str(prefix)


def _ports(ports: PortRange) -> str:
    return f"{ports.first:d}" if ports.first == ports.last else f"{ports.first:d}-{ports.last:d}"
