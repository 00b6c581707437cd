"""What Portward is compared with on a router: nothing, connection tracking alone, and lists tried rule by rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from portward.model import Action, Policy, Rule

#: Puts a firewall in place for the time of a block.
Peer = Callable[[], AbstractContextManager[None]]

NOTHING, CONNECTION_TRACKING, IPTABLES, LINEAR = "no firewall", "connection tracking alone", "iptables", "nft linear"
OWN = "portward"
_VERDICTS = {Action.ALLOW: ("ACCEPT", "accept"), Action.DENY: ("DROP", "drop")}
_NO_RULES = "*filter\n:FORWARD ACCEPT\nCOMMIT\n"
_HOOK = "type filter hook forward priority filter; policy accept;"


class Runner(Protocol):
    """Where commands are run."""

    def run(self, command: list[str], text: str) -> None:
        """``command``, with ``text`` as its input; raises ``RuntimeError`` when it is missing or refuses."""
        ...


def firewalls(router: Runner, policy: Policy) -> dict[str, Peer]:
    """Peers of a router, the first being the one that ratios refer to."""
    tracked = ["ct state established,related accept", "ct state invalid drop"]
    return {
        CONNECTION_TRACKING: _loaded(router, _table(["ct state established,new accept"])),
        NOTHING: nothing,
        LINEAR: _loaded(router, _table(["iifname in0 goto rules"], [*tracked, *map(_nft, policy.rules), "drop"])),
    }


def tracking(router: Runner) -> Peer:
    """Connections are known and nothing is refused, beside any of the others."""
    return _loaded(router, _table(["ct state established,new accept"], name="tracking"), "tracking")


def lookups(router: Runner, policy: Policy, own: str) -> dict[str, Peer]:
    """Lists alone, without connections; ``own`` is the body of a table whose chain ``rules`` is ours."""
    return {
        NOTHING: nothing,
        LINEAR: _loaded(router, _table(["goto rules"], [*map(_nft, policy.rules), "drop"])),
        OWN: _loaded(router, _table(["jump rules", "accept"], body=own)),
    }


def copies(policies: Mapping[str, Policy]) -> str:
    """An nft table in which each device has a copy of its policy."""
    lists = {device: "".join(f"{_nft(rule)}\n" for rule in policy.rules) for device, policy in policies.items()}
    chains = "".join(f"chain port-{device} {{\n{rules}drop\n}}\n" for device, rules in lists.items())
    leads = ", ".join(f'"{device}" : goto port-{device}' for device in policies)
    ports = f"map ports {{ type ifname : verdict; elements = {{ {leads} }} }}\n"
    tracked = ["ct state established,related accept", "ct state invalid drop"]
    return _table([*tracked, "iifname vmap @ports", "oifname vmap @ports"], body=chains + ports)


def find_iptables(router: Runner) -> str | None:
    """What loads iptables rules here: of the two kinds the older one, which is faster, if the kernel still has it."""
    for command in ("iptables-legacy-restore", "iptables-nft-restore"):
        try:
            router.run([command], _NO_RULES)
        except RuntimeError:
            continue
        return command
    return None


def iptables(router: Runner, command: str, policy: Policy, *, tracked: bool = True) -> Peer:
    """As neutron-fwaas lays a group out: a chain a port and direction, the rules in it one by one, then drop.

    Empty tables stay in the namespace afterwards, and cost each packet: it should be one that no other peer uses.
    """
    lines = ["*filter", ":FORWARD ACCEPT", ":port -", ":list -", ":drop -", "-A FORWARD -i in0 -j port"]
    states = ("INVALID -j DROP", "RELATED,ESTABLISHED -j ACCEPT") if tracked else ()
    lines += [f"-A port -m state --state {state}" for state in states]
    lines += ["-A port -j list", "-A port -j drop", "-A drop -j DROP"]
    lines += [_iptables_rule(rule) for rule in policy.rules]
    text = "\n".join([*lines, "COMMIT\n"])

    @contextmanager
    def loaded() -> Iterator[None]:
        router.run([command], text)
        try:
            yield
        finally:
            router.run([command], _NO_RULES)

    return loaded


def _table(base: Sequence[str], rules: Sequence[str] = (), body: str = "", name: str = "peer") -> str:
    chains = {"forward": [_HOOK, *base], **({"rules": rules} if rules else {})}
    text = "".join(
        f"chain {chain} {{\n" + "".join(f"{line}\n" for line in lines) + "}\n" for chain, lines in chains.items()
    )
    return f"table inet {name} {{\n{text}{body}}}\n"


@contextmanager
def nothing() -> Iterator[None]:
    """No firewall."""
    yield


def _loaded(router: Runner, text: str, name: str = "peer") -> Peer:
    @contextmanager
    def loaded() -> Iterator[None]:
        router.run(["nft", "-f", "-"], text)
        try:
            yield
        finally:
            router.run(["nft", "delete", "table", "inet", name], "")

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
