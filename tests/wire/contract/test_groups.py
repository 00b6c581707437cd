"""Firewall groups: which ports and policies they take, and from whom."""

from typing import Any

import pytest

from wire.conftest import UNKNOWN, Api
from wire.contract.cloud import (
    COMPUTE,
    GROUP,
    POLICY,
    PORT,
    ROUTER,
    Personas,
    not_found,
    refused,
    router_port,
    unchanged,
    vm_port,
)

KEYS = {
    "id", "project_id", "tenant_id", "name", "description", "shared", "admin_state_up", "status", "ports",
    "ingress_firewall_policy_id", "egress_firewall_policy_id", "revision_number", "created_at", "updated_at", "tags",
    "stratum", "position", "scope", "project_ids",
}  # fmt: skip


def test_a_group_of_which_nothing_is_said_takes_the_defaults(member: Api) -> None:
    """Behaviour 50."""
    group = member.make(GROUP)
    assert group.keys() == KEYS
    assert group | {"id": "", "created_at": "", "updated_at": ""} == {
        "id": "", "project_id": "p1", "tenant_id": "p1", "name": "", "description": "", "shared": False,
        "admin_state_up": True, "status": "INACTIVE", "ports": [], "ingress_firewall_policy_id": None,
        "egress_firewall_policy_id": None, "revision_number": 0, "created_at": "", "updated_at": "", "tags": [],
        "stratum": "tenant", "position": 0, "scope": "ports", "project_ids": [],
    }  # fmt: skip
    assert member.show(GROUP, group["id"]) == group
    assert member.make(GROUP, ports=None)["ports"] == []


def in_use(*ports: str) -> str:
    return f"Port(s) {list(ports)} provided already associated with other firewall group(s)."


def test_a_port_is_in_one_group(admin: Api, member: Api) -> None:
    """Behaviour 53."""
    taken, free = router_port(admin), router_port(admin)
    member.make(GROUP, ports=[taken])
    second = member.make(GROUP, ports=[free])["id"]
    with unchanged(admin):
        for answer in (
            member.post(GROUP, ports=[taken]),
            member.put(GROUP, second, name="x", ports=[free, taken]),
            admin.post(GROUP, ports=[taken]),
            admin.post(GROUP, project_id="p2", ports=[taken]),
        ):
            refused(answer, 409, "FirewallGroupPortInUse", in_use(taken))


def test_a_vm_port_moves_from_the_default_group_and_returns(default: Personas) -> None:
    """Behaviour 53. Difference 16."""
    admin, member = default.admin, default.member
    port, other = vm_port(admin), vm_port(admin)
    (home,) = member.index(GROUP)
    assert (home["name"], sorted(home["ports"])) == ("default", sorted([port, other]))
    group = member.make(GROUP, ports=[port])
    assert group["ports"] == [port]
    assert member.show(GROUP, home["id"])["ports"] == [other]
    second = member.make(GROUP)["id"]
    assert member.change(GROUP, second, ports=[other])["ports"] == [other]
    assert member.show(GROUP, home["id"])["ports"] == []
    with unchanged(admin):
        refused(member.put(GROUP, second, ports=[other, port]), 409, "FirewallGroupPortInUse", in_use(port))
    member.change(GROUP, second, ports=[])
    assert member.show(GROUP, home["id"])["ports"] == [other]
    member.change(GROUP, group["id"], ports=[])
    assert sorted(member.show(GROUP, home["id"])["ports"]) == sorted([port, other])


@pytest.mark.parametrize(
    "owner",
    ["network:dhcp", "network:router_gateway", "", "neutron:LOADBALANCERV2", "Octavia", "network:floatingip"],
)
def test_a_port_of_neither_router_nor_vm_is_refused(admin: Api, member: Api, owner: str) -> None:
    """Behaviour 54."""
    port = admin.make(PORT, project_id="p1", device_owner=owner)["id"]
    group = member.make(GROUP)["id"]
    said = f"Port {port} of firewall group is invalid."
    with unchanged(admin):
        refused(member.post(GROUP, ports=[port]), 409, "FirewallGroupPortInvalid", said)
        refused(member.put(GROUP, group, name="x", ports=[port]), 409, "FirewallGroupPortInvalid", said)


@pytest.mark.parametrize("owner", [ROUTER, "network:ha_router_replicated_interface", COMPUTE, "compute:"])
def test_a_port_of_a_router_or_vm_is_taken_bound_or_not(admin: Api, member: Api, owner: str) -> None:
    """Behaviour 54. Difference 14."""
    port = admin.make(PORT, project_id="p1", device_owner=owner, device_id=UNKNOWN)["id"]
    assert member.make(GROUP, ports=[port])["ports"] == [port]


def test_a_member_takes_only_ports_of_the_own_project(admin: Api, member: Api) -> None:
    """Behaviour 54."""
    foreign = router_port(admin, "p2")
    group = member.make(GROUP)["id"]
    with unchanged(admin):
        for port in (foreign, UNKNOWN):
            not_found(member.post(GROUP, ports=[port]), PORT, port)
            not_found(member.put(GROUP, group, name="x", ports=[port]), PORT, port)
        not_found(admin.post(GROUP, ports=[UNKNOWN]), PORT, UNKNOWN)


@pytest.mark.parametrize(
    ("given", "reason"),
    [(["x"], "'x' is not a valid UUID."), ("x", "'x' is not a list."), ([UNKNOWN, UNKNOWN], None), ([7], None)],
)
def test_a_list_of_ports_that_is_none_of_distinct_ids_is_refused(
    admin: Api, member: Api, given: object, reason: str | None
) -> None:
    """Behaviour 54."""
    group = member.make(GROUP)["id"]
    message = f"Invalid input for ports. Reason: {reason}" if reason else None
    with unchanged(admin):
        refused(member.post(GROUP, ports=given), 400, "HTTPBadRequest", message)
        refused(member.put(GROUP, group, name="x", ports=given), 400, "HTTPBadRequest", message)


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_group_applies_only_policies_that_its_project_may_use(
    admin: Api, member: Api, stranger: Api, direction: str
) -> None:
    """Behaviour 55."""
    key = f"{direction}_firewall_policy_id"
    foreign = stranger.make(POLICY)["id"]
    shared = admin.make(POLICY, shared=True, project_id="p2")["id"]
    group = member.make(GROUP)["id"]
    with unchanged(admin):
        for policy in (foreign, UNKNOWN):
            for answer in (
                member.post(GROUP, **{key: policy}),
                member.put(GROUP, group, name="x", **{key: policy}),
                admin.post(GROUP, project_id="p1", **{key: policy}),
                admin.put(GROUP, group, **{key: policy}),
            ):
                not_found(answer, POLICY, policy)
        for wrong in ("", "nope", 7, []):
            refused(member.post(GROUP, **{key: wrong}), 400, "HTTPBadRequest")
            refused(member.put(GROUP, group, **{key: wrong}), 400, "HTTPBadRequest")
    assert member.make(GROUP, **{key: shared})[key] == shared
    assert member.change(GROUP, group, **{key: shared})[key] == shared
    assert member.change(GROUP, group, **{key: None})[key] is None
    assert admin.make(GROUP, project_id="p2", **{key: foreign})[key] == foreign


def test_one_policy_serves_both_directions_and_names_repeat(member: Api) -> None:
    """Behaviour 56."""
    policy = member.make(POLICY)["id"]
    for _ in range(2):
        group = member.make(GROUP, name="g", ingress_firewall_policy_id=policy, egress_firewall_policy_id=policy)
        assert group["ingress_firewall_policy_id"] == group["egress_firewall_policy_id"] == policy
    assert len(member.index(GROUP, name="g")) == 2


def test_a_status_is_not_set_by_users(admin: Api, member: Api) -> None:
    """Behaviour 57."""
    group = member.make(GROUP)["id"]
    with unchanged(admin):
        for who in (member, admin):
            refused(who.post(GROUP, status="ACTIVE"), 400, "HTTPBadRequest", "Attribute 'status' not allowed in POST")
            answer = who.put(GROUP, group, status="ACTIVE")
            refused(answer, 400, "HTTPBadRequest", "Cannot update read-only attribute status")


def test_the_name_of_the_default_group_is_reserved(admin: Api, member: Api) -> None:
    """Behaviour 57. Difference 7."""
    group = member.make(GROUP)["id"]
    said = "Operation cannot be performed since 'default' is a reserved name for Firewall Group."
    with unchanged(admin):
        for who in (member, admin):
            refused(who.post(GROUP, name="default"), 409, "FirewallDefaultParameterExists", said)
            refused(who.put(GROUP, group, name="default"), 409, "FirewallDefaultParameterExists", said)
    assert member.make(GROUP, name="Default")["name"] == "Default"
    assert member.change(GROUP, group, name="DEFAULT")["name"] == "DEFAULT"


def test_a_group_with_ports_cannot_be_deleted(admin: Api, member: Api) -> None:
    """Behaviour 63."""
    group = member.make(GROUP, ports=[router_port(admin)])["id"]
    with unchanged(admin):
        for who in (member, admin):
            refused(who.delete(GROUP, group), 409, "FirewallGroupInUse", f"Firewall group {group} is still active.")
    member.change(GROUP, group, ports=[])
    answer = member.delete(GROUP, group)
    assert (answer.status_code, answer.content) == (204, b"")
    not_found(member.delete(GROUP, group), GROUP, group)


def test_a_deleted_port_vanishes_from_its_group(admin: Api, member: Api) -> None:
    """Behaviour 64."""
    ports = [router_port(admin) for _ in range(3)]
    group = member.make(GROUP, ports=ports)["id"]
    assert admin.delete(PORT, ports[1]).status_code == 204
    shown = member.show(GROUP, group)
    assert (shown["ports"], shown["status"]) == ([ports[0], ports[2]], "PENDING_CREATE")
    admin.delete(PORT, ports[0])
    admin.delete(PORT, ports[2])
    shown = member.show(GROUP, group)
    assert (shown["ports"], shown["status"]) == ([], "INACTIVE")
    assert member.delete(GROUP, group).status_code == 204


@pytest.mark.parametrize("change", [{"name": "x"}, {"ports": []}, {"admin_state_up": False}, {}])
def test_a_foreign_shared_group_is_not_changed_by_whatever_attribute(
    admin: Api, stranger: Api, who: Personas, change: dict[str, Any]
) -> None:
    """Behaviour 65."""
    group = admin.make(GROUP, shared=True, project_id="p1", ports=[router_port(admin)])["id"]
    with unchanged(admin):
        for other in (stranger, who.foreign_reader, who.reader):
            answer = other.put(GROUP, group, **change)
            refused(answer, 403, "PolicyNotAuthorized", "rule:update_firewall_group is disallowed by policy")
