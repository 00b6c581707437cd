"""Faults of both dataplanes, put into the product of this process one at a time, to see that tests catch them.

A fault changes what the dataplane is told, what it tells the kernel, or how it numbers epochs: what stays the same
whichever way rules are laid out. So each fault has its meaning for both kinds of port, and is caught for both.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network

import msgspec
import pytest

from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.libnftables import Nft
from portward.dataplane.openvswitch.bridge import Bridge
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.dataplane.openvswitch.flows import CtState, Flow, Resubmit, Track
from portward.dataplane.openvswitch.flows import Field as FlowField
from portward.dataplane.openvswitch.layout import Table
from portward.dataplane.openvswitch.openflow import FlowChange, OpenflowConnection
from portward.model import HostState, PortRange, Prefix, Report, Rule

Fault = Callable[[pytest.MonkeyPatch], None]


def _told(change: Callable[[HostState], HostState]) -> Fault:
    """The dataplanes are told another state."""

    def put_in(patch: pytest.MonkeyPatch) -> None:
        for dataplane in (NftablesDataplane, OpenvswitchDataplane):
            _tell(patch, dataplane, change)

    return put_in


def _tell(patch: pytest.MonkeyPatch, dataplane: type, change: Callable[[HostState], HostState]) -> None:
    right = dataplane.apply  # type: ignore[attr-defined]

    def apply(self: object, state: HostState) -> Report:
        report: Report = right(self, change(state))
        return report

    patch.setattr(dataplane, "apply", apply)


def _rules(change: Callable[[tuple[Rule, ...]], Iterable[Rule]]) -> Fault:
    """Policies have other rules."""

    def changed(state: HostState) -> HostState:
        policies = [msgspec.structs.replace(policy, rules=tuple(change(policy.rules))) for policy in state.policies]
        return msgspec.structs.replace(state, policies=tuple(policies))

    return _told(changed)


def _rule(change: Callable[[Rule], Rule]) -> Fault:
    """Each rule is another one."""
    return _rules(lambda rules: map(change, rules))


def _sent(pattern: str, replacement: str, flow: Callable[[Flow], Flow]) -> Fault:
    """The kernel gets another text, and the switch other flows."""
    run, commit = Nft.run, OpenflowConnection.commit

    def run_another(nft: Nft, text: str) -> str:
        return run(nft, re.sub(pattern, replacement, text))

    def commit_others(connection: OpenflowConnection, changes: Sequence[FlowChange]) -> None:
        commit(connection, [change._replace(flow=flow(change.flow)) for change in changes])

    def put_in(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Nft, "run", run_another)
        patch.setattr(OpenflowConnection, "commit", commit_others)

    return put_in


def _no_ingress(flow: Flow) -> Flow:
    """Frames to a virtual machine are delivered at once."""
    is_decision = flow.key.table == Table.INGRESS and any(isinstance(action, Track) for action in flow.actions)
    return flow._replace(actions=(Resubmit(Table.ADMIT),)) if is_decision else flow


def _no_stale_reply(flow: Flow) -> Flow:
    """A reply of a connection that was accepted under an older epoch, by whichever side, passes."""
    is_reply = any(item.field is FlowField.CT_STATE and item.value & CtState.RPL for item in flow.key.match)
    return flow._replace(actions=(Resubmit(Table.ADMIT),)) if flow.key.table == Table.SIDE and is_reply else flow


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
    patch.setattr(Bridge, "_next_epoch", lambda _: 2)


_replace = msgspec.structs.replace

FAULTS: dict[str, Fault] = {
    "a border of ports off by one": _rule(lambda it: _replace(it, destination_port=_longer(it.destination_port))),
    "a border of addresses off by one bit": _rule(lambda it: _replace(it, destination=_wider(it.destination))),
    "the order swapped": _rules(lambda rules: rules[::-1]),
    "the version ignored": _rules(_both_versions),
    "the protocol ignored": _rule(
        lambda it: (
            _replace(it, protocol=None, source_port=None, destination_port=None, icmp_type=None)
            if it.source_port is None and it.destination_port is None
            else it
        )
    ),
    "an address ignored": _rule(lambda it: _replace(it, source=None)),
    "a disabled rule installed": _rule(lambda it: _replace(it, enabled=True)),
    "directions swapped": _told(_swapped),
    "the second decision skipped": _sent(r"(?m)^.*[io]ifname vmap @v\d+/ingress$", "", _no_ingress),
    "the epoch not raised": _same_epoch,
    "a stale reply not judged": _sent(
        r"ct direction reply goto (v\d+/epoch/\S+)", "ct direction reply accept", _no_stale_reply
    ),
}
