"""``openstack firewall group ...`` with Keystone: what it says, and what the API then holds."""

from typing import Any

import pytest

from demo.client import OpenStackClient
from wire.clients.cloud import GROUP, POLICY, Cloud, check_printed, does, run_once, told
from wire.conftest import Api

CREATE = "firewall group create"
BOTH = "--ingress-firewall-policy p1 --egress-firewall-policy p0"


@pytest.fixture
def policies(held: Api, keystone_cloud: Cloud) -> dict[str, str]:
    """Two shared policies of p1: their ids by name."""
    project = keystone_cloud.project("p1")
    return {name: held.make(POLICY, name=name, shared=True, project_id=project)["id"] for name in ("p0", "p1")}


@pytest.fixture
def ports(held: Api, keystone_cloud: Cloud) -> dict[str, str]:
    """Two ports of p1, which an admin made known: their ids by name."""
    project = keystone_cloud.project("p1")
    return {name: held.router_port(name=name, project_id=project)["id"] for name in ("port-a", "port-b")}


def group(api: Api) -> dict[str, Any]:
    (found,) = api.index(GROUP)
    return found


@pytest.mark.parametrize("options", ["", "--no-port --no-ingress-firewall-policy --no-egress-firewall-policy --enable"])
def test_a_group_may_begin_with_nothing(
    member: OpenStackClient, held: Api, keystone_cloud: Cloud, options: str
) -> None:
    printed = told(member, f"{CREATE} g1 {options}")
    made = group(held)
    wanted = {"name": "g1", "project_id": keystone_cloud.project("p1"), "shared": False, "admin_state_up": True,
              "ports": [], "ingress_firewall_policy_id": None, "egress_firewall_policy_id": None, "description": "",
              "status": "INACTIVE"}  # fmt: skip
    assert {key: made[key] for key in wanted} == wanted
    check_printed(GROUP, printed, made)


def test_a_group_is_made_as_its_options_say(
    member: OpenStackClient, held: Api, policies: dict[str, str], ports: dict[str, str]
) -> None:
    options = f"{BOTH} --port port-a --port {ports['port-b']} --description gg --disable --no-share"
    printed = told(member, f"{CREATE} g1 {options}")
    made = group(held)
    wanted = {"name": "g1", "shared": False, "admin_state_up": False, "description": "gg",
              "ingress_firewall_policy_id": policies["p1"], "egress_firewall_policy_id": policies["p0"]}  # fmt: skip
    assert {key: made[key] for key in wanted} == wanted
    assert sorted(made["ports"]) == sorted(ports.values())
    check_printed(GROUP, printed, made)


@pytest.mark.usefixtures("policies", "ports")
def test_what_a_group_names_must_be_there(member: OpenStackClient, held: Api) -> None:
    assert "No Port found for nosuch" in member.run(f"{CREATE} g1 --port nosuch")
    assert "No FirewallPolicy found for nosuch" in member.run(f"{CREATE} g1 --ingress-firewall-policy nosuch")
    assert "'default' is a reserved name" in member.run(f"{CREATE} default")
    assert held.index(GROUP) == []
    told(member, f"{CREATE} g1 --port port-a")
    assert "already associated with other firewall group" in member.run(f"{CREATE} g2 --port port-a")


def test_a_port_of_another_project_is_not_found(member: OpenStackClient, held: Api, keystone_cloud: Cloud) -> None:
    held.router_port(name="theirs", project_id=keystone_cloud.project("p2"))
    assert "No Port found for theirs" in member.run(f"{CREATE} g1 --port theirs")


def test_only_an_admin_shares_a_group_and_makes_one_for_others(
    admin: OpenStackClient, member: OpenStackClient, held: Api, keystone_cloud: Cloud
) -> None:
    assert "create_firewall_group:shared) is disallowed by policy" in member.run(f"{CREATE} g1 --share")
    assert held.index(GROUP) == []
    told(admin, f"{CREATE} g1 --share --project p2")
    assert group(held)["project_id"] == keystone_cloud.project("p2")
    assert told(member, "firewall group show g1")["Shared"] is True
    does(admin, "firewall group set g1 --no-share")
    assert group(held)["shared"] is False
    assert member.run("firewall group show g1") == "No FirewallGroup found for g1"
    does(admin, "firewall group set g1 --share")
    does(admin, "firewall group unset g1 --share")
    assert group(held)["shared"] is False


@pytest.mark.usefixtures("policies", "ports")
def test_groups_are_shown_by_name_and_by_id_and_listed(member: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} g1 {BOTH} --port port-a")
    told(member, f"{CREATE} g2 --disable")
    groups = {made["name"]: made for made in held.index(GROUP)}
    for name in ("g1", groups["g1"]["id"]):
        check_printed(GROUP, told(member, f"firewall group show {name}"), groups["g1"])
    assert member.run("firewall group show nosuch") == "No FirewallGroup found for nosuch"
    short = ("ID", "Name", "Ingress Policy ID", "Egress Policy ID")
    full = {row["Name"]: row for row in told(member, "firewall group list --long")}
    assert full.keys() == groups.keys()
    for name, row in full.items():
        check_printed(GROUP, row, groups[name])
    for row in told(member, "firewall group list"):
        assert row == {column: full[row["Name"]][column] for column in short}


def test_set_adds_replaces_and_clears(
    member: OpenStackClient, held: Api, policies: dict[str, str], ports: dict[str, str]
) -> None:
    told(member, f"{CREATE} g2")
    does(member, "firewall group set g2 --name g2b --port port-a --ingress-firewall-policy p0 --disable")
    made = group(held)
    assert (made["name"], made["admin_state_up"], made["ports"]) == ("g2b", False, [ports["port-a"]])
    assert made["ingress_firewall_policy_id"] == policies["p0"]
    more = "--no-ingress-firewall-policy --egress-firewall-policy p1 --enable --description d"
    does(member, f"firewall group set g2b --port {ports['port-b']} {more}")
    made = group(held)
    assert (sorted(made["ports"]), made["ingress_firewall_policy_id"]) == (sorted(ports.values()), None)
    assert (made["egress_firewall_policy_id"], made["admin_state_up"]) == (policies["p1"], True)
    assert made["description"] == "d"
    does(member, f"firewall group set {made['id']} --no-port --port port-b --no-egress-firewall-policy")
    assert (group(held)["ports"], group(held)["egress_firewall_policy_id"]) == ([ports["port-b"]], None)
    does(member, "firewall group set g2b --no-port")
    assert (group(held)["ports"], group(held)["status"]) == ([], "INACTIVE")


@pytest.mark.usefixtures("policies")
def test_unset_takes_away_what_it_names(member: OpenStackClient, held: Api, ports: dict[str, str]) -> None:
    told(member, f"{CREATE} g1 {BOTH} --port port-a --port port-b")
    does(member, "firewall group unset g1 --port port-a")
    assert group(held)["ports"] == [ports["port-b"]]
    does(member, "firewall group unset g1 --all-port --ingress-firewall-policy --egress-firewall-policy --enable")
    made = group(held)
    assert (made["ports"], made["admin_state_up"]) == ([], False)
    assert (made["ingress_firewall_policy_id"], made["egress_firewall_policy_id"]) == (None, None)


def test_delete_goes_on_past_a_group_that_is_not_there_and_says_so(
    member: OpenStackClient, held: Api, keystone_cloud: Cloud
) -> None:
    for name in ("g1", "g2b", "g3"):
        told(member, f"{CREATE} {name}")
    done = run_once(keystone_cloud.variables("member"), "firewall", "group", "delete", "g1", "g2b", "nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No FirewallGroup found for nosuch" in done.stderr
    assert done.stderr.endswith("1 of 3 firewall group(s) failed to delete.\n")
    assert group(held)["name"] == "g3"
    does(member, f"firewall group delete {group(held)['id']}")
    assert held.index(GROUP) == []


@pytest.mark.usefixtures("ports")
def test_a_group_with_ports_is_not_deleted(member: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} g1 --port port-a")
    assert "is still active" in member.run("firewall group delete g1")
    assert group(held)["name"] == "g1"


def test_a_reader_sees_and_changes_nothing(member: OpenStackClient, reader: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} g1")
    before = group(held)
    assert [row["Name"] for row in told(reader, "firewall group list")] == ["g1"]
    for action, command in (
        ("create_firewall_group", "create g2"),
        ("update_firewall_group", "set g1 --name x"),
        ("update_firewall_group", "unset g1 --all-port"),
        ("delete_firewall_group", "delete g1"),
    ):
        answer = reader.run(f"firewall group {command}")
        assert f"rule:{action} is disallowed by policy" in answer, answer
    assert group(held) == before
