"""What Portward is compared with on a router: nothing, connection tracking alone, and lists tried rule by rule."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from portward.model import Action, Policy, Rule

#: Puts a firewall in place for the time of a block.
Peer = Callable[[], AbstractContextManager[None]]

NOTHING, CONNECTION_TRACKING, IPTABLES, LINEAR = "no firewall", "connection tracking alone", "iptables", "nft linear"
OWN = "portward"
_VERDICTS = {Action.ALLOW: ("ACCEPT", "accept"), Action.DENY: ("DROP", "drop")}
_HOOK = "type filter hook forward priority filter; policy accept;"


class Runner(Protocol):
    """Where commands are run."""

    def run(self, command: list[str], text: str) -> None:
        """``command``, with ``text`` as its input."""
        ...


def firewalls(router: Runner, policy: Policy) -> dict[str, Peer]:
    """The peers that this machine has, the first being the one that ratios refer to."""
    tracked = ["ct state established,related accept", "ct state invalid drop"]
    peers = {
        CONNECTION_TRACKING: _loaded(router, _table(["ct state established,new accept"])),
        NOTHING: nothing,
        LINEAR: _loaded(router, _table(["iifname in0 goto rules"], [*tracked, *map(_nft, policy.rules), "drop"])),
    }
    if has_iptables():
        states = ("INVALID -j DROP", "RELATED,ESTABLISHED -j ACCEPT")
        peers[IPTABLES] = _iptables(router, policy, [f"-m state --state {state}" for state in states])
    return peers


def lookups(router: Runner, policy: Policy, own: str) -> dict[str, Peer]:
    """Lists alone, without connections; ``own`` is the body of a table whose chain ``rules`` is ours."""
    peers = {NOTHING: nothing, LINEAR: _loaded(router, _table(["goto rules"], [*map(_nft, policy.rules), "drop"]))}
    if has_iptables():
        peers[IPTABLES] = _iptables(router, policy, [])
    return peers | {OWN: _loaded(router, _table(["jump rules", "accept"], body=own))}


def copies(policies: Mapping[str, Policy]) -> str:
    """An nft table in which each device has a copy of its policy."""
    lists = {device: "".join(f"{_nft(rule)}\n" for rule in policy.rules) for device, policy in policies.items()}
    chains = "".join(f"chain port-{device} {{\n{rules}drop\n}}\n" for device, rules in lists.items())
    leads = ", ".join(f'"{device}" : goto port-{device}' for device in policies)
    ports = f"map ports {{ type ifname : verdict; elements = {{ {leads} }} }}\n"
    tracked = ["ct state established,related accept", "ct state invalid drop"]
    return _table([*tracked, "iifname vmap @ports", "oifname vmap @ports"], body=chains + ports)


def has_iptables() -> bool:
    """Whether this machine has the older of the two that are called iptables, which is the faster one."""
    return shutil.which("iptables-legacy-restore", path="/usr/sbin:/sbin") is not None


def _table(base: Sequence[str], rules: Sequence[str] = (), body: str = "") -> str:
    chains = {"forward": [_HOOK, *base], **({"rules": rules} if rules else {})}
    text = "".join(
        f"chain {name} {{\n" + "".join(f"{line}\n" for line in lines) + "}\n" for name, lines in chains.items()
    )
    return f"table inet peer {{\n{text}{body}}}\n"


@contextmanager
def nothing() -> Iterator[None]:
    """No firewall."""
    yield


def _loaded(router: Runner, text: str) -> Peer:
    @contextmanager
    def loaded() -> Iterator[None]:
        router.run(["nft", "-f", "-"], text)
        try:
            yield
        finally:
            router.run(["nft", "delete", "table", "inet", "peer"], "")

    return loaded


def _iptables(router: Runner, policy: Policy, states: Sequence[str]) -> Peer:
    """As neutron-fwaas lays a group out: a chain a port and direction, the rules in it one by one, then drop."""
    lines = ["*filter", ":FORWARD ACCEPT", ":port -", ":list -", ":drop -", "-A FORWARD -i in0 -j port"]
    lines += [f"-A port {state}" for state in states]
    lines += ["-A port -j list", "-A port -j drop", "-A drop -j DROP"]
    lines += [_iptables_rule(rule) for rule in policy.rules]
    text = "\n".join([*lines, "COMMIT\n"])

    @contextmanager
    def loaded() -> Iterator[None]:
        router.run(["iptables-legacy-restore"], text)
        try:
            yield
        finally:
            router.run(["iptables-legacy-restore"], "*filter\n:FORWARD ACCEPT\nCOMMIT\n")

    return loaded


def _iptables_rule(rule: Rule) -> str:
    words = ["-A list", f"-p {rule.protocol}"]
    words += [f"-s {rule.source}"] if rule.source else []
    words += [f"-d {rule.destination}"] if rule.destination else []
    words += [f"--dport {rule.destination_port}"] if rule.destination_port else []
    return " ".join([*words, "-j", _VERDICTS[rule.action][0]])


def _nft(rule: Rule) -> str:
    words = [f"meta l4proto {rule.protocol}"]
    words += [f"ip saddr {rule.source}"] if rule.source else []
    words += [f"ip daddr {rule.destination}"] if rule.destination else []
    words += [f"th dport {rule.destination_port.first}-{rule.destination_port.last}"] if rule.destination_port else []
    return " ".join([*words, _VERDICTS[rule.action][1]])
