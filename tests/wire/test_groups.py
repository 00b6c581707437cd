"""Firewall groups over HTTP."""

from typing import Any

import pytest

from wire.conftest import UNKNOWN, Api

GROUP, POLICY = "firewall_group", "firewall_policy"
KEYS = {
    "id",
    "project_id",
    "tenant_id",
    "name",
    "description",
    "shared",
    "stratum",
    "position",
    "scope",
    "project_ids",
    "admin_state_up",
    "status",
    "ports",
    "ingress_firewall_policy_id",
    "egress_firewall_policy_id",
    "revision_number",
    "created_at",
    "updated_at",
    "tags",
}


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["NeutronError"]["type"]


def test_a_group_without_ports_is_inactive(api: Api) -> None:
    group = api.make(GROUP)
    assert group.keys() == KEYS
    assert (group["status"], group["ports"], group["admin_state_up"]) == ("INACTIVE", [], True)
    assert api.show(GROUP, group["id"]) == group


@pytest.mark.parametrize("with_policy", [True, False])
def test_a_group_with_a_port_waits_for_its_host_whether_it_has_a_policy_or_not(api: Api, with_policy: bool) -> None:
    policy = api.make(POLICY)["id"] if with_policy else None
    group = api.make(GROUP, ports=[api.router_port()["id"]], ingress_firewall_policy_id=policy)
    assert group["status"] == "PENDING_CREATE"
    assert api.show(GROUP, group["id"]) == group
    assert api.index(GROUP) == [group]


def test_a_group_whose_port_is_bound_nowhere_is_active(api: Api) -> None:
    port = api.make("port", device_owner="compute:nova")
    assert api.make(GROUP, ports=[port["id"]])["status"] == "ACTIVE"
    down = api.make(GROUP, ports=[api.make("port", device_owner="compute:nova")["id"]], admin_state_up=False)
    assert down["status"] == "DOWN"


def test_the_order_of_ports_is_kept(api: Api) -> None:
    ports = sorted((api.router_port()["id"] for _ in range(4)), reverse=True)
    group = api.make(GROUP, ports=ports)
    assert group["ports"] == ports
    assert api.change(GROUP, group["id"], ports=ports[::-1])["ports"] == ports[::-1]
    assert api.show(GROUP, group["id"])["ports"] == ports[::-1]


def test_two_groups_exclude_each_others_ports(api: Api) -> None:
    port, other = api.router_port()["id"], api.router_port()["id"]
    api.make(GROUP, ports=[port])
    second = api.make(GROUP, ports=[other], project_id="p2")
    before = api.everything()
    for answer in (api.post(GROUP, ports=[port]), api.put(GROUP, second["id"], name="x", ports=[other, port])):
        assert error(answer) == (409, "FirewallGroupPortInUse")
        assert (
            answer.json()["NeutronError"]["message"]
            == f"Port(s) ['{port}'] provided already associated with other firewall group(s)."
        )
    assert api.everything() == before


@pytest.mark.parametrize(
    "owner",
    ["network:dhcp", "network:router_gateway", "", "neutron:LOADBALANCERV2", "network:floatingip", "compute", "x"],
)
def test_a_port_of_neither_router_nor_vm_is_refused(api: Api, owner: str) -> None:
    port = api.make("port", device_owner=owner)["id"]
    answer = api.post(GROUP, ports=[port])
    assert error(answer) == (409, "FirewallGroupPortInvalid")
    assert answer.json()["NeutronError"]["message"] == f"Port {port} of firewall group is invalid."
    assert api.index(GROUP) == []


@pytest.mark.parametrize(
    "owner",
    ["network:router_interface", "network:ha_router_replicated_interface", "network:router_interface_distributed",
     "compute:nova", "compute:", "baremetal:none", "trunk:subport"],
)  # fmt: skip
def test_a_port_of_a_router_or_vm_is_taken(api: Api, owner: str) -> None:
    assert api.make(GROUP, ports=[api.make("port", device_owner=owner)["id"]])["ports"]


def test_what_is_named_must_be_there(api: Api) -> None:
    group = api.make(GROUP, name="g")
    for given, kind in (
        ({"ports": [UNKNOWN]}, "PortNotFound"),
        ({"ingress_firewall_policy_id": UNKNOWN}, "FirewallPolicyNotFound"),
        ({"egress_firewall_policy_id": UNKNOWN}, "FirewallPolicyNotFound"),
    ):
        assert error(api.post(GROUP, **given)) == (404, kind)
        assert error(api.put(GROUP, group["id"], name="x", **given)) == (404, kind)
    assert api.index(GROUP) == [group]


@pytest.mark.parametrize(
    "given",
    [
        {"ports": ["x"]},
        {"ports": "x"},
        {"ports": {UNKNOWN: 1}},
        {"ports": [UNKNOWN, UNKNOWN]},
        {"ingress_firewall_policy_id": ""},
        {"egress_firewall_policy_id": "x"},
        {"egress_firewall_policy_id": [UNKNOWN]},
        {"admin_state_up": None},
        {"status": "ACTIVE"},
    ],
)
def test_a_bad_value_is_refused(api: Api, given: dict[str, Any]) -> None:
    group = api.make(GROUP)
    assert error(api.post(GROUP, **given))[0] == 400
    assert error(api.put(GROUP, group["id"], **given))[0] == 400
    assert api.index(GROUP) == [group]


def test_one_policy_may_serve_both_directions_and_names_may_repeat(api: Api) -> None:
    policy = api.make(POLICY)["id"]
    for _ in range(2):
        group = api.make(GROUP, name="g", ingress_firewall_policy_id=policy, egress_firewall_policy_id=policy)
        assert group["ingress_firewall_policy_id"] == group["egress_firewall_policy_id"] == policy


def test_a_pending_group_can_be_changed_at_any_time(api: Api) -> None:
    group = api.make(GROUP, ports=[api.router_port()["id"]])
    for number in range(3):
        changed = api.change(GROUP, group["id"], admin_state_up=bool(number % 2))
        assert changed["status"] == "PENDING_CREATE"
    assert changed["revision_number"] == 3
    assert api.change(GROUP, group["id"], admin_state_up=False) == changed, "no change"


def test_a_port_that_left_is_free_at_once(api: Api) -> None:
    port = api.router_port()["id"]
    first = api.make(GROUP, ports=[port])["id"]
    left = api.change(GROUP, first, ports=[])
    assert (left["ports"], left["status"]) == ([], "INACTIVE")
    assert api.make(GROUP, ports=[port])["ports"] == [port]


def test_a_group_with_ports_cannot_be_deleted(api: Api) -> None:
    group = api.make(GROUP, ports=[api.router_port()["id"]])["id"]
    answer = api.delete(GROUP, group)
    assert error(answer) == (409, "FirewallGroupInUse")
    assert answer.json()["NeutronError"]["message"] == f"Firewall group {group} is still active."
    api.change(GROUP, group, ports=None)
    assert api.delete(GROUP, group).status_code == 204
    assert error(api.delete(GROUP, group)) == (404, "FirewallGroupNotFound")


def test_a_deleted_port_vanishes_from_its_group(api: Api) -> None:
    ports = [api.router_port()["id"] for _ in range(2)]
    group = api.make(GROUP, ports=ports)["id"]
    assert api.delete("port", ports[0]).status_code == 204
    assert api.show(GROUP, group)["ports"] == ports[1:]
    assert api.delete("port", ports[1]).status_code == 204
    shown = api.show(GROUP, group)
    assert (shown["ports"], shown["status"], shown["revision_number"]) == ([], "INACTIVE", 2)


def test_a_port_that_stops_being_a_routers_leaves_its_group(api: Api) -> None:
    port = api.router_port()["id"]
    group = api.make(GROUP, ports=[port])["id"]
    api.change("port", port, device_owner="compute:nova")
    assert api.show(GROUP, group)["ports"] == [port], "a VM's port may be in a group as well"
    api.change("port", port, device_owner="network:dhcp")
    assert api.show(GROUP, group)["ports"] == []


def test_realisation_tells_port_by_port_how_far_the_hosts_are(api: Api) -> None:
    port = api.router_port()["id"]
    group = api.make(GROUP, ports=[port])["id"]
    answer = api.request("GET", f"/v2.0/fwaas/firewall_groups/{group}/realisation")
    assert answer.status_code == 200
    assert answer.json() == {
        "realisation": {
            "status": "PENDING_CREATE",
            "ports": [{"port_id": port, "host": "h1", "generation": None, "realised": False, "error": None}],
        }
    }
    for unknown in (UNKNOWN, "nope"):
        missing = api.request("GET", f"/v2.0/fwaas/firewall_groups/{unknown}/realisation")
        assert error(missing) == (404, "FirewallGroupNotFound")
