"""Strata over HTTP: who may set them, what decides for a port, and what of it a tenant is told."""

from collections.abc import Iterator
from typing import Any

import pytest

from portward.config import DefaultFirewallGroup
from portward.store import Store
from wire.conftest import UNKNOWN, Api, forget_everything, running, settings
from wire.contract.cloud import (
    GROUP,
    POLICY,
    RULE,
    Personas,
    denied,
    refused,
    router_port,
    unchanged,
    verdict,
    vm_port,
    write_users,
)

HIDDEN = {"id": None, "name": "admin"}
PACKET = {
    "source": "192.0.2.1",
    "destination": "192.0.2.2",
    "protocol": "tcp",
    "source_port": 9,
    "destination_port": 80,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Personas, Store]]:
    """A server without default groups, and its database."""
    directory = tmp_path_factory.mktemp("strata")
    chosen = settings(directory).model_copy(update={"auth": write_users(directory)})
    with running(chosen) as url:
        who, store = Personas(url), Store(chosen.database.url)
        yield who, store
        who.close()
        store.close()


@pytest.fixture
def who(server: tuple[Personas, Store]) -> Personas:
    """Who calls a server that holds nothing yet."""
    who, store = server
    store.writing(forget_everything)
    return who


def effective(api: Api, port: str) -> list[dict[str, Any]]:
    answer = api.request("GET", f"/v2.0/fwaas/effective/{port}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["effective"].keys() == {"port_id", "groups"}
    return list(answer.json()["effective"]["groups"])


def explained(api: Api, port: str, **packet: Any) -> dict[str, Any]:
    question = {"port_id": port, "direction": "ingress", "packet": PACKET | packet}
    answer = api.request("POST", "/v2.0/fwaas/explain", json={"explain": question})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["explanation"])


def assigned(admin: Api, port: str, *, stratum: str = "admin", project: str = "admin", **rule: Any) -> tuple[str, ...]:
    """The ids of a group, its ingress policy and that one's rule, which the admin made."""
    rule_id = admin.make(RULE, project_id=project, name="secret rule", **rule)["id"]
    policy = admin.make(POLICY, project_id=project, name="secret policy", firewall_rules=[rule_id])["id"]
    group = admin.make(
        GROUP, project_id=project, name="secret group", stratum=stratum, ports=[port], ingress_firewall_policy_id=policy
    )
    return group["id"], policy, rule_id


def test_the_extensions_are_told(who: Personas) -> None:
    told = {item["alias"] for item in who.member.request("GET", "/v2.0/extensions").json()["extensions"]}
    assert {"fwaas-strata", "fwaas-effective"} <= told


@pytest.mark.parametrize(
    ("name", "value"),
    [("stratum", "baseline"), ("position", 3), ("scope", "all"), ("project_ids", ["p1"])],
)
def test_a_member_sets_no_attribute_of_strata(who: Personas, name: str, value: Any) -> None:
    group = who.member.make(GROUP)
    with unchanged(who.admin):
        for given in (value, group[name]):
            answer = who.member.put(GROUP, group["id"], **{name: given})
            denied(answer, "update_firewall_group", f"update_firewall_group:{name}")
        denied(who.member.post(GROUP, **{name: value}), "create_firewall_group", f"create_firewall_group:{name}")
    assert who.member.make(GROUP, **{name: group[name]})[name] == group[name]


@pytest.mark.parametrize(
    "values",
    [
        {"stratum": "Admin"},
        {"stratum": None},
        {"position": -1},
        {"position": 2**31},
        {"position": "x"},
        {"scope": "some"},
        {"project_ids": "p1"},
        {"project_ids": [""]},
        {"project_ids": ["p1", "p1"]},
        {"project_ids": [7]},
        {"scope": "all"},
        {"stratum": "admin", "scope": "projects"},
        {"stratum": "admin", "scope": "projects", "project_ids": []},
        {"stratum": "admin", "project_ids": ["p1"]},
    ],
)
def test_what_makes_no_sense_is_refused(who: Personas, values: dict[str, Any]) -> None:
    group = who.admin.make(GROUP)["id"]
    with unchanged(who.admin):
        assert who.admin.post(GROUP, **values).status_code == 400
        assert who.admin.put(GROUP, group, **values).status_code == 400


def test_an_admins_group_is_made_shown_filtered_and_sorted_by(who: Personas) -> None:
    port = router_port(who.admin)
    values = {"stratum": "admin", "position": 7, "scope": "projects", "project_ids": ["p2", "p1"]}
    group = who.admin.make(GROUP, **values)
    assert group["ports"] == [port]
    assert {name: group[name] for name in values} == values | {"project_ids": ["p1", "p2"]}
    assert who.admin.show(GROUP, group["id"]) == group
    tenant = who.admin.make(GROUP)
    assert who.admin.index(GROUP, stratum="admin", position=7, scope="projects") == [group]
    assert who.admin.index(GROUP, sort_key="position", sort_dir="desc") == [group, tenant]
    changed = who.admin.change(GROUP, group["id"], position="8", scope="all", project_ids=[])
    assert (changed["position"], changed["scope"], changed["ports"]) == (8, "all", [port])
    refused(who.admin.put(GROUP, group["id"], ports=[port]), 400, "FirewallGroupPortsByScope")
    assert who.admin.delete(GROUP, group["id"]).status_code == 204


def test_what_an_admin_assigned_says_why_a_member_may_not_change_it(who: Personas) -> None:
    port = router_port(who.admin)
    group, policy, rule = assigned(who.admin, port, project="p1")
    with unchanged(who.admin):
        for kind, words, id_ in ((GROUP, "group", group), (POLICY, "policy", policy), (RULE, "rule", rule)):
            why = (
                f"Firewall {words} {id_} is, or is used by, a firewall group of the stratum admin or baseline: "
                "only admins may change it."
            )
            refused(who.member.put(kind, id_, name="x"), 403, "FirewallObjectGuarded", why)
            refused(who.member.delete(kind, id_), 403, "FirewallObjectGuarded", why)
    assert who.member.show(RULE, rule)["id"] == rule


def test_a_group_that_would_use_what_others_own_is_refused_and_they_are_named(who: Personas) -> None:
    rule = who.admin.make(RULE, project_id="p2", shared=True)["id"]
    policy = who.admin.make(POLICY, project_id="p1", firewall_rules=[rule])["id"]
    group = who.admin.make(GROUP, project_id="p1", ingress_firewall_policy_id=policy)["id"]
    with unchanged(who.admin):
        answer = who.admin.put(GROUP, group, stratum="baseline")
    refused(answer, 409, "FirewallGroupUsesForeign")
    assert f"firewall rule {rule}" in answer.json()["NeutronError"]["message"]


def test_rules_that_pass_are_an_admins_and_stand_in_admin_groups(who: Personas) -> None:
    refused(who.member.post(RULE, action="pass"), 403, "FirewallRulePassAdminOnly")
    rule = who.admin.make(RULE, project_id="p1", action="PASS")
    assert rule["action"] == "pass"
    policy = who.member.make(POLICY, firewall_rules=[rule["id"]])["id"]
    answer = who.member.post(GROUP, ingress_firewall_policy_id=policy)
    refused(answer, 409, "FirewallRulePassMisplaced")
    who.admin.make(GROUP, project_id="p1", stratum="admin", ingress_firewall_policy_id=policy)


# What decides for a port


def test_the_groups_that_decide_for_a_port_are_told_in_their_order_with_their_rules(who: Personas) -> None:
    port = router_port(who.admin)
    rule = who.member.make(RULE, name="web", protocol="tcp", destination_port=80)
    policy = who.member.make(POLICY, firewall_rules=[rule["id"]])["id"]
    mine = who.member.make(GROUP, name="mine", ports=[port], ingress_firewall_policy_id=policy)["id"]
    baseline, _, _ = assigned(who.admin, port, stratum="baseline")
    admins, first, secret = assigned(who.admin, port)
    down = assigned(who.admin, port)[0]
    who.admin.change(GROUP, down, admin_state_up=False)
    told = effective(who.admin, port)
    assert [(group["id"], group["stratum"]) for group in told] == [
        (admins, "admin"), (mine, "tenant"), (baseline, "baseline"),
    ]  # fmt: skip
    assert told[0]["ingress_firewall_policy_id"] == first
    assert [one["id"] for one in told[0]["ingress_rules"]] == [secret]
    shown = {
        "stratum": "tenant", "id": mine, "name": "mine", "position": 0, "admin_state_up": True,
        "ingress_firewall_policy_id": policy, "egress_firewall_policy_id": None,
        "ingress_rules": [who.member.show(RULE, rule["id"])], "egress_rules": [],
    }  # fmt: skip
    hidden = dict.fromkeys(shown) | HIDDEN | {"ingress_rules": [], "egress_rules": []}
    for api in (who.member, who.reader):
        assert effective(api, port) == [hidden | {"stratum": "admin"}, shown, hidden | {"stratum": "baseline"}]


def test_of_a_group_that_is_seen_the_rules_that_are_not_are_said_to_be_there_once(who: Personas) -> None:
    port = router_port(who.admin)
    group, policy, _ = assigned(who.admin, port)
    who.admin.insert(policy, firewall_rule_id=who.admin.make(RULE, project_id="admin")["id"])
    who.admin.change(GROUP, group, shared=True)
    (told,) = effective(who.member, port)
    assert (told["id"], told["ingress_rules"]) == (group, [HIDDEN])


@pytest.mark.parametrize(("scope", "told"), [({"scope": "all"}, []), ({"scope": "projects"}, ["p1"])])
def test_of_a_shared_group_over_many_projects_each_sees_what_concerns_it(
    who: Personas, scope: dict[str, Any], told: list[str]
) -> None:
    mine, theirs = router_port(who.admin), router_port(who.admin, "p2")
    if scope["scope"] == "projects":
        scope = scope | {"project_ids": ["p1", "p2"]}
    group = who.admin.make(GROUP, project_id="admin", stratum="admin", shared=True, **scope)["id"]
    assert {mine, theirs} <= set(who.admin.show(GROUP, group)["ports"])
    for seen in (who.member.show(GROUP, group), *who.member.index(GROUP, id=group)):
        assert (seen["ports"], seen["project_ids"]) == ([mine], told)


def test_who_decides_for_a_port_is_told_its_project_only(who: Personas) -> None:
    port = router_port(who.admin)
    for api, id_ in ((who.stranger, port), (who.foreign_reader, port), (who.member, UNKNOWN), (who.member, "x")):
        refused(api.request("GET", f"/v2.0/fwaas/effective/{id_}"), 404, "PortNotFound")
    assert who.roleless.request("GET", f"/v2.0/fwaas/effective/{port}").status_code in (403, 404)
    assert effective(who.member, port) == []


def test_an_explanation_calls_what_is_hidden_admin(who: Personas) -> None:
    port = router_port(who.admin)
    rule = who.member.make(RULE, name="web", protocol="tcp", action="allow")["id"]
    policy = who.member.make(POLICY, firewall_rules=[rule])["id"]
    who.member.make(GROUP, name="mine", ports=[port], ingress_firewall_policy_id=policy)
    secrets = [*assigned(who.admin, port, protocol="tcp", destination_port=25), "secret"]
    who.admin.insert(secrets[1], firewall_rule_id=who.admin.make(RULE, project_id="admin", protocol="udp")["id"])
    passed = explained(who.member, port)
    assert (passed["rule_id"], passed["rule_name"], passed["stratum"]) == (rule, "web", "tenant")
    nothing = {"field": None, "rule_says": None, "packet_has": None}
    hidden = {"rule_id": None, "rule_name": "admin", "policy_id": None, "policy_name": "admin"}
    assert passed["passed_over"] == [hidden | nothing]
    refusal = explained(who.member, port, destination_port=25)
    assert (refusal["verdict"], refusal["stratum"]) == ("deny", "admin")
    assert refusal["reason"] == "rule admin of policy admin is the first that matches."
    for what in ("group", "policy", "rule"):
        assert (refusal[f"{what}_id"], refusal[f"{what}_name"]) == (None, "admin")
    for told in (passed, refusal):
        assert not [secret for secret in secrets if secret in str(told)]
    assert explained(who.admin, port, destination_port=25)["rule_id"] == secrets[2]


@pytest.mark.parametrize(("ingress_enabled", "expected"), [(True, "deny"), (False, "allow")])
def test_a_baseline_holds_in_a_default_group_whose_ingress_rules_take_no_part(
    tmp_path_factory: pytest.TempPathFactory, ingress_enabled: bool, expected: str
) -> None:
    directory = tmp_path_factory.mktemp("default")
    chosen = settings(directory).model_copy(
        update={"default_firewall_group": DefaultFirewallGroup(ingress_enabled=ingress_enabled)}
    )
    with running(chosen) as url:
        admin = Api(url)
        port = vm_port(admin, **{"binding:host_id": "h1"})
        assert verdict(admin, port) == "deny"
        assigned(admin, port, stratum="baseline", protocol="tcp", destination_port=80, action="allow")
        assert verdict(admin, port) == expected
        assert [group["stratum"] for group in effective(admin, port)] == ["tenant", "baseline"]
        assert len(effective(admin, port)[0]["ingress_rules"]) == 2
        admin.http.close()
