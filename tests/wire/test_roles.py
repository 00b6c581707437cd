"""Who may see and do what beyond firewall resources: ports, hosts, realisation, explanations; and overridden rules."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wire.conftest import UNKNOWN, Api, path, running, settings
from wire.contract.cloud import GROUP, PORT, RULE, Personas, denied, refused, write_users

HOSTS = "/v2.0/fwaas/hosts"
POLICY_FILE = """
"create_firewall_rule": "role:reader and project_id:%(project_id)s"
"get_firewall_rule": "rule:admin_only or (role:member and project_id:%(project_id)s)"
"update_port": "rule:admin_only or (role:member and project_id:%(project_id)s)"
"""


@pytest.fixture(scope="module")
def module_who(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Personas]:
    directory = tmp_path_factory.mktemp("roles")
    with running(settings(directory).model_copy(update={"auth": write_users(directory)})) as url:
        who = Personas(url)
        yield who
        who.close()


@pytest.fixture
def who(module_who: Personas) -> Iterator[Personas]:
    yield module_who
    for kind in (GROUP, PORT, RULE):
        for item in module_who.admin.index(kind):
            if kind == GROUP:
                module_who.admin.change(kind, item["id"], ports=[])
            module_who.admin.delete(kind, item["id"])


@pytest.fixture
def overridden(tmp_path: Path) -> Iterator[Personas]:
    """Who acts where an operator has rules of their own."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY_FILE)
    auth = write_users(tmp_path).model_copy(update={"policy_file": file})
    with running(settings(tmp_path).model_copy(update={"auth": auth})) as url:
        who = Personas(url)
        yield who
        who.close()


def test_members_read_the_ports_of_their_project_without_bindings(who: Personas) -> None:
    own = who.admin.router_port(project_id="p1", **{"binding:profile": {"device": "eth1"}})
    foreign = who.admin.router_port(project_id="p2")
    bindings = {"binding:host_id", "binding:profile"}
    shown = {name: value for name, value in own.items() if name not in bindings}
    for api in (who.member, who.reader):
        assert api.index(PORT) == [shown]
        assert api.show(PORT, own["id"]) == shown
        assert api.show(PORT, own["id"], fields=["id", "binding:host_id"]) == {"id": own["id"]}
        refused(api.get(PORT, foreign["id"]), 404, "PortNotFound")
    assert bindings <= who.admin.show(PORT, own["id"]).keys()
    assert who.roleless.index(PORT) == []


def test_what_a_port_hides_can_be_neither_filtered_nor_sorted_by(who: Personas) -> None:
    who.admin.router_port(project_id="p1")
    rule = "get_port:binding:host_id"
    denied(who.member.request("GET", "/v2.0/ports", params={"binding:host_id": "h1"}), rule)
    denied(who.member.request("GET", "/v2.0/ports?sort_key=binding:host_id&sort_dir=asc"), rule)
    assert len(who.admin.index(PORT, **{"binding:host_id": "h1"})) == 1
    assert who.admin.index(PORT, **{"binding:host_id": "h2"}) == []


def test_only_admins_write_ports(who: Personas) -> None:
    own = who.admin.router_port(project_id="p1")
    denied(who.member.post(PORT), "create_port")
    denied(who.member.put(PORT, own["id"], name="x"), "update_port")
    denied(who.member.delete(PORT, own["id"]), "delete_port")
    denied(who.member.request("PUT", f"{path(PORT)}/{own['id']}/tags/a"), "update_port")
    refused(who.stranger.delete(PORT, own["id"]), 404, "PortNotFound")


def test_hosts_are_for_admins(who: Personas) -> None:
    denied(who.member.request("GET", HOSTS), "get_hosts")
    assert who.admin.request("GET", HOSTS).json() == {"hosts": []}


def test_members_see_what_became_of_their_group_and_not_where(who: Personas) -> None:
    port = who.admin.router_port(project_id="p1")
    group = who.member.make(GROUP, ports=[port["id"]])
    realisation = f"{path(GROUP)}/{group['id']}/realisation"
    (seen,) = who.reader.request("GET", realisation).json()["realisation"]["ports"]
    (by_admin,) = who.admin.request("GET", realisation).json()["realisation"]["ports"]
    assert by_admin["host"] == "h1"
    assert seen == {name: value for name, value in by_admin.items() if name != "host"}
    refused(who.stranger.request("GET", realisation), 404, "FirewallGroupNotFound")
    who.admin.change(GROUP, group["id"], shared=True)
    denied(who.stranger.request("GET", realisation), "get_firewall_group_realisation")


def test_a_decision_is_explained_to_the_project_of_the_port(who: Personas) -> None:
    port = who.admin.router_port(project_id="p1", **{"binding:host_id": ""})
    packet = {"source": "10.0.0.1", "destination": "10.0.0.2", "protocol": "tcp", "destination_port": 80}
    body = {"explain": {"port_id": port["id"], "direction": "ingress", "packet": {**packet, "source_port": 1}}}

    def ask(api: Api) -> int:
        return api.request("POST", "/v2.0/fwaas/explain", json=body).status_code

    assert [ask(api) for api in (who.admin, who.member, who.reader, who.stranger, who.roleless)] == [
        200,
        200,
        200,
        404,
        404,
    ]


def test_tags_take_the_right_to_change_what_bears_them(who: Personas) -> None:
    rule = who.member.make(RULE)
    tags = f"{path(RULE)}/{rule['id']}/tags"
    denied(who.reader.request("PUT", tags, json={"tags": ["a"]}), "update_firewall_rule")
    assert who.member.request("PUT", tags, json={"tags": ["a"]}).status_code == 200
    assert who.reader.request("GET", tags).json() == {"tags": ["a"]}
    refused(who.stranger.request("GET", tags), 404, "FirewallRuleNotFound")


def test_a_marker_that_a_caller_cannot_see_leads_nowhere(who: Personas) -> None:
    rule = who.member.make(RULE)
    who.stranger.make(RULE)
    assert who.stranger.index(RULE, limit=1, marker=rule["id"]) == []
    assert who.stranger.index(RULE, limit=1, marker=UNKNOWN) == []


def test_whatever_a_caller_may_not_make_the_bulk_makes_nothing(who: Personas) -> None:
    body = {"firewall_rules": [{"name": "a"}, {"shared": True}]}
    denied(who.member.request("POST", path(RULE), json=body), "create_firewall_rule", "create_firewall_rule:shared")
    assert who.member.index(RULE) == []


def test_an_operators_rules_decide_calls_and_narrow_lists(overridden: Personas) -> None:
    rule = overridden.reader.make(RULE)
    shared = overridden.admin.make(RULE, shared=True)
    denied(overridden.admin.post(RULE, project_id="p1"), "create_firewall_rule")
    assert overridden.member.index(RULE) == [rule]
    refused(overridden.member.get(RULE, shared["id"]), 404, "FirewallRuleNotFound")
    assert overridden.reader.index(RULE) == []
    refused(overridden.reader.get(RULE, rule["id"]), 404, "FirewallRuleNotFound")


def test_who_may_write_a_port_still_does_not_read_what_is_hidden(overridden: Personas) -> None:
    port = overridden.admin.router_port(project_id="p1")
    assert "binding:host_id" not in overridden.member.change(PORT, port["id"], name="x")
