"""Faults of a dataplane, put into the product of this process one at a time, to see that tests catch them.

A fault changes what the dataplane is told, what it tells the kernel, or how it numbers epochs: what stays the same
whichever way rules are laid out.
"""

import re
from collections.abc import Callable, Iterable
from ipaddress import ip_network

import msgspec
import pytest

from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.libnftables import Nft
from portward.model import HostState, PortRange, Prefix, Report, Rule

Fault = Callable[[pytest.MonkeyPatch], None]


def _told(change: Callable[[HostState], HostState]) -> Fault:
    """The dataplane is told another state."""
    right = NftablesDataplane.apply

    def apply(dataplane: NftablesDataplane, state: HostState) -> Report:
        return right(dataplane, change(state))

    return lambda patch: patch.setattr(NftablesDataplane, "apply", apply)


def _rules(change: Callable[[tuple[Rule, ...]], Iterable[Rule]]) -> Fault:
    """Policies have other rules."""

    def changed(state: HostState) -> HostState:
        policies = [msgspec.structs.replace(policy, rules=tuple(change(policy.rules))) for policy in state.policies]
        return msgspec.structs.replace(state, policies=tuple(policies))

    return _told(changed)


def _rule(change: Callable[[Rule], Rule]) -> Fault:
    """Each rule is another one."""
    return _rules(lambda rules: map(change, rules))


def _text(pattern: str, replacement: str) -> Fault:
    """The kernel gets another text."""
    right = Nft.run

    def run(nft: Nft, text: str) -> str:
        return right(nft, re.sub(pattern, replacement, text))

    return lambda patch: patch.setattr(Nft, "run", run)


def _longer(ports: PortRange | None) -> PortRange | None:
    return None if ports is None else PortRange(ports.first, min(65535, ports.last + 1))


def _wider(prefix: Prefix | None) -> Prefix | None:
    return None if prefix is None or not prefix.prefixlen else ip_network(prefix).supernet()


def _both_versions(rules: tuple[Rule, ...]) -> Iterable[Rule]:
    for rule in rules:
        yield rule
        if rule.source is None and rule.destination is None:
            protocol = {1: 58, 58: 1}.get(rule.protocol or 0, rule.protocol)
            yield msgspec.structs.replace(rule, ip_version=10 - rule.ip_version, protocol=protocol)


def _swapped(state: HostState) -> HostState:
    ports = [
        msgspec.structs.replace(
            covered,
            groups=tuple(
                msgspec.structs.replace(
                    group, ingress_policy_id=group.egress_policy_id, egress_policy_id=group.ingress_policy_id
                )
                for group in covered.groups
            ),
        )
        for covered in state.ports
    ]
    return msgspec.structs.replace(state, ports=tuple(ports))


def _same_epoch(patch: pytest.MonkeyPatch) -> None:
    # Not 1: before that is entered, all that bears it is cleared.
    patch.setattr(Epochs, "after", lambda _, epoch: epoch or 2)


_replace = msgspec.structs.replace

FAULTS: dict[str, Fault] = {
    "a border of ports off by one": _rule(lambda it: _replace(it, destination_port=_longer(it.destination_port))),
    "a border of addresses off by one bit": _rule(lambda it: _replace(it, destination=_wider(it.destination))),
    "the order swapped": _rules(lambda rules: rules[::-1]),
    "the version ignored": _rules(_both_versions),
    "the protocol ignored": _rule(
        lambda it: (
            _replace(it, protocol=None, source_port=None, destination_port=None)
            if it.source_port is None and it.destination_port is None
            else it
        )
    ),
    "an address ignored": _rule(lambda it: _replace(it, source=None)),
    "a disabled rule installed": _rule(lambda it: _replace(it, enabled=True)),
    "directions swapped": _told(_swapped),
    "the second decision skipped": _text(r"(?m)^.*[io]ifname vmap @v\d+/ingress$", ""),
    "the epoch not raised": _same_epoch,
    "a stale reply not judged": _text(r"ct direction reply goto (v\d+/epoch/\S+)", "ct direction reply accept"),
}
