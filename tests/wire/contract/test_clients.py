"""What gophercloud, Terraform, openstacksdk, Horizon and the openstack command rely on, beyond the behaviours."""

from typing import Any

import pytest

from wire.conftest import Api, path
from wire.contract.cloud import GROUP, POLICY, RULE, router_port, rules

#: What a Go structure of gophercloud has, or it does not decode.
TYPES: dict[str, dict[str, tuple[type, ...]]] = {
    RULE: {
        "id": (str,), "project_id": (str,), "tenant_id": (str,), "name": (str,), "description": (str,),
        "shared": (bool,), "protocol": (str, type(None)), "ip_version": (int,), "source_ip_address": (str, type(None)),
        "destination_ip_address": (str, type(None)), "source_port": (str, type(None)),
        "destination_port": (str, type(None)), "action": (str,), "enabled": (bool,),
        "source_address_group_id": (str, type(None)), "destination_address_group_id": (str, type(None)),
        "source_firewall_group_id": (str, type(None)), "destination_firewall_group_id": (str, type(None)),
        "icmp_type": (int, type(None)), "icmp_code": (int, type(None)),
        "firewall_policy_id": (list, type(None)), "revision_number": (int,), "created_at": (str,), "updated_at": (str,),
        "tags": (list,),
    },
    POLICY: {
        "id": (str,), "project_id": (str,), "tenant_id": (str,), "name": (str,), "description": (str,),
        "shared": (bool,), "audited": (bool,), "firewall_rules": (list,), "revision_number": (int,),
        "created_at": (str,), "updated_at": (str,), "tags": (list,),
    },
    GROUP: {
        "id": (str,), "project_id": (str,), "tenant_id": (str,), "name": (str,), "description": (str,),
        "shared": (bool,), "admin_state_up": (bool,), "status": (str,), "ports": (list,),
        "stratum": (str,), "position": (int,), "scope": (str,), "project_ids": (list,),
        "ingress_firewall_policy_id": (str, type(None)), "egress_firewall_policy_id": (str, type(None)),
        "revision_number": (int,), "created_at": (str,), "updated_at": (str,), "tags": (list,),
    },
}  # fmt: skip


def check_types(kind: str, shown: dict[str, Any]) -> None:
    assert shown.keys() == TYPES[kind].keys()
    for key, types in TYPES[kind].items():
        assert type(shown[key]) in types, (key, shown[key])
    for stamp in ("created_at", "updated_at"):
        assert len(shown[stamp]) == len("2026-11-22T21:07:30Z")
        assert shown[stamp].endswith("Z")


def test_every_answer_has_the_types_that_go_decodes(admin: Api, member: Api) -> None:
    full = {"protocol": "tcp", "source_port": 77, "destination_port": "76:76", "ip_version": "4",
            "source_ip_address": "192.168.1.25", "destination_ip_address": "192.168.2.95"}  # fmt: skip
    rule = member.make(RULE, **full)
    policy = member.make(POLICY, firewall_rules=[rule["id"]])
    ports = sorted((router_port(admin) for _ in range(3)), reverse=True)
    policies = {f"{direction}_firewall_policy_id": policy["id"] for direction in ("ingress", "egress")}
    group = member.make(GROUP, ports=ports, **policies)
    assert (rule["source_port"], rule["destination_port"]) == ("77", "76")
    assert group["ports"] == ports
    for kind, made in ((RULE, rule), (POLICY, policy), (GROUP, group)):
        for shown in (made, member.show(kind, made["id"]), *member.index(kind), member.change(kind, made["id"])):
            check_types(kind, shown)
    for answer in (
        member.remove(policy["id"], firewall_rule_id=rule["id"]),
        member.insert(policy["id"], firewall_rule_id=rule["id"]),
    ):
        check_types(POLICY, answer.json())


def test_what_a_creation_answers_is_what_a_later_get_shows(admin: Api, member: Api) -> None:
    inside = rules(member, 2, protocol="tcp", destination_port=80)
    for rule in inside:
        member.show(RULE, rule)
    policy = member.make(POLICY, firewall_rules=inside[::-1])
    group = member.make(GROUP, ports=[router_port(admin), router_port(admin)], ingress_firewall_policy_id=policy["id"])
    rule = member.make(RULE, name="x")
    for kind, made in ((RULE, rule), (POLICY, policy), (GROUP, group)):
        assert member.show(kind, made["id"]) == made
        assert made in member.index(kind)


def test_the_policies_of_a_rule_are_a_list_or_null_in_every_answer(member: Api) -> None:
    """Difference 2."""
    rule = member.make(RULE)
    assert rule["firewall_policy_id"] is None
    policy = member.make(POLICY, firewall_rules=[rule["id"]])["id"]
    for shown in (member.show(RULE, rule["id"]), *member.index(RULE), member.change(RULE, rule["id"], name="x")):
        assert shown["firewall_policy_id"] == [policy]


def test_a_change_always_answers_200_whatever_it_changes(admin: Api, member: Api) -> None:
    policy = member.make(POLICY)["id"]
    for kind, changes in (
        (RULE, [{}, {"name": "x"}, {"protocol": "tcp", "destination_port": "80"}]),
        (POLICY, [{}, {"name": "x"}, {"firewall_rules": rules(member, 1)}]),
        (GROUP, [{}, {"name": "x"}, {"ports": [router_port(admin)]}, {"egress_firewall_policy_id": policy}]),
    ):
        made = member.make(kind)["id"]
        for change in changes:
            answer = member.put(kind, made, **change)
            assert (answer.status_code, list(answer.json())) == (200, [kind])


def test_terraform_clears_a_port_by_zero(member: Api) -> None:
    """Difference 9."""
    rule = member.make(RULE, protocol="udp", source_port="77:77", destination_port="53")["id"]
    changed = member.change(RULE, rule, destination_port="0", protocol="udp")
    assert (changed["destination_port"], changed["source_port"], changed["protocol"]) == (None, "77", "udp")
    assert member.change(RULE, rule, source_port="0", protocol="udp")["source_port"] is None


@pytest.mark.parametrize("text", ["0:100", "0:65535"])
def test_a_range_from_zero_is_never_widened(member: Api, text: str) -> None:
    """Difference 9."""
    rule = member.make(RULE, protocol="tcp", source_port=text)["id"]
    assert member.change(RULE, rule, destination_port=text)["destination_port"] == text
    assert member.show(RULE, rule)["source_port"] == text
    assert member.put(RULE, rule, destination_port="0:0").status_code == 400
    assert member.show(RULE, rule)["destination_port"] == text


def test_terraform_clears_an_address_by_an_empty_string(member: Api) -> None:
    """Difference 5."""
    rule = member.make(RULE, source_ip_address="10.0.0.1", destination_ip_address="10.0.0.2")["id"]
    changed = member.change(RULE, rule, source_ip_address="", ip_version=4)
    assert (changed["source_ip_address"], changed["destination_ip_address"]) == (None, "10.0.0.2")


def test_terraform_changes_a_protocol_to_any(member: Api) -> None:
    """Difference 5."""
    rule = member.make(RULE, protocol="tcp")["id"]
    assert member.change(RULE, rule, protocol="any")["protocol"] is None


def test_the_openstack_command_clears_groups_that_rules_do_not_have(member: Api) -> None:
    """Difference 5."""
    rule = member.make(RULE)["id"]
    body = {"source_firewall_group_id": None, "destination_firewall_group_id": None, "enabled": False}
    assert member.change(RULE, rule, **body)["enabled"] is False


def test_terraform_deletes_a_group_step_by_step(admin: Api, member: Api) -> None:
    policy = member.make(POLICY)["id"]
    both = {"ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
    group = member.make(GROUP, ports=[router_port(admin)], **both)["id"]
    assert member.show(GROUP, group)["ports"]
    assert member.change(GROUP, group, ports=[])["status"] in ("ACTIVE", "INACTIVE", "DOWN")
    for key in both:
        assert member.change(GROUP, group, **{key: None})[key] is None
        assert member.show(GROUP, group)[key] is None
    assert member.delete(GROUP, group).status_code == 204
    assert member.get(GROUP, group).status_code == 404
    assert member.delete(POLICY, policy).status_code == 204


def test_terraform_deletes_a_policy_once_no_group_applies_it(member: Api) -> None:
    inside = rules(member, 1)
    policy = member.make(POLICY, firewall_rules=inside)["id"]
    group = member.make(GROUP, ingress_firewall_policy_id=policy)["id"]
    assert member.delete(POLICY, policy).status_code == 409
    member.change(GROUP, group, ingress_firewall_policy_id=None)
    assert member.delete(POLICY, policy).status_code == 204
    assert member.delete(RULE, inside[0]).status_code == 204


def test_terraform_deletes_a_rule_out_of_each_of_its_policies(member: Api) -> None:
    rule = member.make(RULE)["id"]
    policies = [member.make(POLICY, firewall_rules=[rule])["id"] for _ in range(3)]
    told = member.show(RULE, rule)["firewall_policy_id"]
    assert sorted(told) == sorted(policies)
    for policy in told:
        assert member.remove(policy, firewall_rule_id=rule).status_code == 200
    assert member.delete(RULE, rule).status_code == 204


def test_a_data_source_finds_its_one_hit_by_every_option(member: Api) -> None:
    rules(member, 2)
    full = {"name": "x", "protocol": "tcp", "source_port": "1:2", "destination_port": "80", "action": "allow",
            "source_ip_address": "10.0.0.1", "destination_ip_address": "10.0.0.2", "description": "d",
            "enabled": False}  # fmt: skip
    rule = member.make(RULE, **full)
    policy = member.make(POLICY, firewall_rules=[rule["id"]])["id"]
    sought = {key: str(value) for key, value in full.items()} | {
        "tenant_id": "p1", "project_id": "p1", "ip_version": "4", "firewall_policy_id": policy, "shared": "false",
    }  # fmt: skip
    for query in (sought, *({key: value} for key, value in sought.items() if key in full)):
        assert [found["id"] for found in member.index(RULE, **query)] == [rule["id"]], query


def test_horizons_page_of_a_policy_lists_its_rules(member: Api) -> None:
    """Difference 3."""
    inside = rules(member, 2)
    rules(member, 1)
    policy = member.make(POLICY, firewall_rules=inside)["id"]
    assert sorted(rule["id"] for rule in member.index(RULE, firewall_policy_id=policy)) == sorted(inside)


def test_a_name_is_looked_up_as_the_openstack_command_does(admin: Api, member: Api) -> None:
    port = router_port(admin, name="wan")
    for kind, made in (
        (RULE, member.make(RULE, name="wan")["id"]),
        (POLICY, member.make(POLICY, name="wan")["id"]),
        (GROUP, member.make(GROUP, name="wan")["id"]),
        ("port", port),
    ):
        assert member.get(kind, "wan").status_code == 404
        assert [found["id"] for found in member.index(kind, name="wan")] == [made]


def test_an_order_to_look_projects_up_elsewhere_is_a_403(member: Api) -> None:
    for place in ("/tenants", "/tenants/x", "/v2.0/tenants", "/v2.0/tenants/x"):
        assert member.request("GET", place).status_code == 403


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_a_revision_counts_the_changes_of_the_object_itself(member: Api, kind: str) -> None:
    """Difference 8."""
    made = member.make(kind)
    assert made["revision_number"] == 0
    assert member.change(kind, made["id"], name="x")["revision_number"] == 1
    assert member.change(kind, made["id"], name="x")["revision_number"] == 1
    assert member.change(kind, made["id"], name="y", description="z")["revision_number"] == 2


def test_a_policy_counts_its_rules_changes_when_its_audit_falls_and_a_group_none(admin: Api, member: Api) -> None:
    """Difference 8."""
    rule = member.make(RULE)["id"]
    policy = member.make(POLICY, firewall_rules=[rule], audited=True)["id"]
    group = member.make(GROUP, ports=[router_port(admin)], ingress_firewall_policy_id=policy)
    member.change(RULE, rule, action="allow")
    assert member.show(POLICY, policy)["revision_number"] == 1
    member.change(RULE, rule, action="deny")
    assert member.show(POLICY, policy)["revision_number"] == 1, "it was not audited any more"
    assert member.show(GROUP, group["id"]) == group


def test_what_others_use_is_unshared_by_nobody(admin: Api, stranger: Api) -> None:
    """Difference 13."""
    rule = admin.make(RULE, shared=True, project_id="p1")["id"]
    policy = admin.make(POLICY, shared=True, project_id="p1", firewall_rules=[rule])["id"]
    stranger.make(GROUP, egress_firewall_policy_id=policy)
    assert admin.put(POLICY, policy, shared=False).status_code == 409
    assert admin.put(RULE, rule, shared=False).status_code == 409
    assert admin.show(POLICY, policy)["shared"] is True


def test_a_version_document_needs_no_token(member: Api) -> None:
    """Difference 1."""
    nobody = Api(member.url)
    link = {"rel": "self", "href": f"{member.url}/v2.0/"}
    version = {"id": "v2.0", "status": "CURRENT", "links": [link]}
    assert nobody.request("GET", "/").json() == {"versions": [version]}
    for place in ("/v2.0", "/v2.0/"):
        document = nobody.request("GET", place)
        assert (document.status_code, document.json()["version"]) == (200, version)
    answer = nobody.request("GET", path(RULE))
    assert answer.status_code == 401
    assert answer.json() == {
        "error": {
            "code": 401, "title": "Unauthorized",
            "message": "The request you have made requires authentication.",
        }
    }  # fmt: skip
    assert answer.headers["www-authenticate"].startswith("Basic ")
    nobody.http.close()
