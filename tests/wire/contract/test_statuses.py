"""What a group's status tells, as hosts report what they did; the hosts are played by hand, and so is the time."""

import pytest

from wire.conftest import Api, path
from wire.contract.cloud import GROUP, POLICY, PORT, RULE, Cloud, Host, router_port, unchanged, verdict


def status(api: Api, group: str) -> str:
    return str(api.show(GROUP, group)["status"])


def allowing_all(member: Api) -> str:
    rule = member.make(RULE, action="allow")["id"]
    return str(member.make(POLICY, firewall_rules=[rule])["id"])


@pytest.mark.parametrize("with_policy", [True, False])
def test_a_group_with_ports_waits_for_its_host_and_becomes_active(
    admin: Api, member: Api, host: Host, with_policy: bool
) -> None:
    """Behaviours 51, 52. Difference 15."""
    port = router_port(admin)
    policy = allowing_all(member) if with_policy else None
    group = member.make(GROUP, ports=[port], ingress_firewall_policy_id=policy)
    assert group["status"] == "PENDING_CREATE"
    assert member.show(GROUP, group["id"]) == group
    host.report()
    assert member.show(GROUP, group["id"]) == group | {"status": "ACTIVE"}, "a report is no edit"
    assert verdict(admin, port, "ingress") == ("allow" if with_policy else "deny")
    assert verdict(admin, port, "egress") == "deny"


def test_a_waiting_group_is_edited_and_the_host_takes_the_last_state_alone(admin: Api, member: Api, host: Host) -> None:
    """Behaviour 58. Difference 10."""
    port = router_port(admin)
    policy = allowing_all(member)
    (rule,) = member.show(POLICY, policy)["firewall_rules"]
    group = member.make(GROUP, ports=[port])["id"]
    for change in ({"ingress_firewall_policy_id": policy}, {"admin_state_up": False}, {"admin_state_up": True}):
        assert member.change(GROUP, group, **change)["status"] == "PENDING_CREATE"
    member.change(RULE, rule, protocol="tcp")
    member.change(POLICY, policy, firewall_rules=[])
    assert member.insert(policy, firewall_rule_id=rule).status_code == 200
    assert status(member, group) == "PENDING_CREATE"
    host.report()
    assert status(member, group) == "ACTIVE"
    member.change(RULE, rule, protocol="udp")
    assert status(member, group) == "PENDING_UPDATE"
    member.change(GROUP, group, egress_firewall_policy_id=policy)
    member.change(RULE, rule, protocol=None)
    assert member.remove(policy, firewall_rule_id=rule).status_code == 200
    assert status(member, group) == "PENDING_UPDATE"
    host.report()
    assert status(member, group) == "ACTIVE"


def test_what_decides_no_packet_rebuilds_nothing(admin: Api, member: Api, host: Host) -> None:
    """Behaviour 59."""
    policy = allowing_all(member)
    (rule,) = member.show(POLICY, policy)["firewall_rules"]
    group = member.make(GROUP, ports=[router_port(admin)], egress_firewall_policy_id=policy)["id"]
    host.report()
    before = host.state()
    for kind, id_ in ((GROUP, group), (POLICY, policy), (RULE, rule)):
        assert member.change(kind, id_, name="new", description="new")["name"] == "new"
        tags = member.request("PUT", f"{path(kind)}/{id_}/tags", json={"tags": ["a"]})
        assert tags.status_code == 200, tags.text
    member.change(POLICY, policy, audited=True)
    for kind, id_ in ((RULE, rule), (POLICY, policy), (GROUP, group)):
        admin.change(kind, id_, shared=True)
    assert status(member, group) == "ACTIVE"
    after = host.state()
    assert (after.generation, after.digest) == (before.generation, before.digest)


def test_a_group_that_is_down_blocks_and_comes_back(admin: Api, member: Api, host: Host) -> None:
    """Behaviour 60."""
    port = router_port(admin)
    group = member.make(GROUP, ports=[port], ingress_firewall_policy_id=allowing_all(member))["id"]
    host.report()
    assert verdict(admin, port) == "allow"
    assert member.change(GROUP, group, admin_state_up=False)["status"] == "PENDING_UPDATE"
    host.report()
    assert status(member, group) == "DOWN"
    assert verdict(admin, port) == "deny"
    ((covering,),) = [covered.groups for covered in host.index().ports]
    assert covering.admin_state_up is False
    assert member.change(GROUP, group, admin_state_up=True)["status"] == "PENDING_UPDATE"
    host.report()
    assert status(member, group) == "ACTIVE"
    assert verdict(admin, port) == "allow"


def test_ports_that_leave_are_free_at_once(admin: Api, member: Api, host: Host) -> None:
    """Behaviour 61."""
    ports = [router_port(admin) for _ in range(2)]
    group = member.make(GROUP, ports=ports)["id"]
    host.report()
    left = member.change(GROUP, group, ports=[])
    assert (left["ports"], left["status"]) == ([], "INACTIVE")
    assert member.change(GROUP, group, ports=ports[:1])["status"] == "PENDING_CREATE", "it begins anew"
    member.change(GROUP, group, ports=[])
    assert member.make(GROUP, ports=ports)["ports"] == ports


def test_a_group_without_policies_denies_and_one_without_ports_leaves_no_trace(
    admin: Api, member: Api, host: Host
) -> None:
    """Behaviour 62. Difference 15."""
    port = router_port(admin)
    policy = allowing_all(member)
    both = {"ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
    group = member.make(GROUP, ports=[port], **both)["id"]
    host.report()
    assert verdict(admin, port) == "allow"
    nulled = member.change(GROUP, group, **dict.fromkeys(both))
    assert nulled["status"] == "PENDING_UPDATE"
    host.report()
    assert status(member, group) == "ACTIVE"
    assert (verdict(admin, port, "ingress"), verdict(admin, port, "egress")) == ("deny", "deny")
    member.change(GROUP, group, ports=[])
    index = host.index()
    assert (index.ports, index.policies) == ((), {})
    assert verdict(admin, port) == "allow"


def test_a_host_that_does_not_realise_makes_an_error_that_can_be_edited(
    cloud: Cloud, admin: Api, member: Api, host: Host
) -> None:
    """Behaviour 66. Difference 17."""
    port = router_port(admin)
    group = member.make(GROUP, ports=[port])["id"]
    cloud.clock.advance(59)
    assert status(member, group) == "PENDING_CREATE"
    cloud.clock.advance(2)
    with unchanged(admin):
        assert status(member, group) == "ERROR"
        answer = member.request("GET", f"{path(GROUP)}/{group}/realisation")
        told = answer.json()["realisation"]
        assert told["status"] == "ERROR"
        assert [(told_of["port_id"], told_of["realised"]) for told_of in told["ports"]] == [(port, False)]
        assert told["ports"][0]["error"], "its reason"
    assert member.change(GROUP, group, admin_state_up=False)["status"] == "PENDING_CREATE"
    cloud.clock.advance(61)
    assert status(member, group) == "ERROR"
    member.change(GROUP, group, admin_state_up=True)
    cloud.clock.advance(61)
    host.report()
    assert status(member, group) == "ACTIVE"


def test_an_error_of_a_host_is_told_with_its_reason_until_it_is_gone(admin: Api, member: Api, host: Host) -> None:
    """Behaviour 66. Difference 17."""
    port = router_port(admin)
    group = member.make(GROUP, ports=[port])["id"]
    host.report("no such device")
    assert status(member, group) == "ERROR"
    told = member.request("GET", f"{path(GROUP)}/{group}/realisation").json()["realisation"]
    assert told["ports"][0]["error"] == "no such device"
    assert told["ports"][0].get("host") is None, "members see no host names"
    told = admin.request("GET", f"{path(GROUP)}/{group}/realisation").json()["realisation"]
    assert told["ports"][0]["host"] == "h1"
    assert member.change(GROUP, group, name="x")["status"] == "ERROR"
    host.report()
    assert status(member, group) == "ACTIVE"


def test_a_port_that_is_bound_nowhere_counts_as_realised(admin: Api, member: Api) -> None:
    """Behaviour 54. Differences 14, 17."""
    port = admin.make(PORT, project_id="p1", device_owner="compute:nova")["id"]
    assert member.make(GROUP, ports=[port])["status"] == "ACTIVE"
    down = admin.make(PORT, project_id="p1", device_owner="compute:nova")["id"]
    assert member.make(GROUP, ports=[down], admin_state_up=False)["status"] == "DOWN"


def test_a_silent_host_that_realised_a_group_changes_nothing(cloud: Cloud, admin: Api, member: Api, host: Host) -> None:
    """Difference 17."""
    group = member.make(GROUP, ports=[router_port(admin)])["id"]
    host.report()
    cloud.clock.advance(3600)
    assert status(member, group) == "ACTIVE"
