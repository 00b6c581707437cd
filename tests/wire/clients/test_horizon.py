"""What Horizon's firewall panel asks, as openstacksdk sends it for Horizon and as a test without Horizon can ask it."""

from collections.abc import Iterator
from typing import Any

import pytest

from wire.clients.cloud import GROUP, POLICY, RULE, Cloud
from wire.conftest import Api, forget_everything


@pytest.fixture
def admin(keystone_cloud: Cloud) -> Iterator[Api]:
    """An admin, in a cloud that holds nothing yet."""
    keystone_cloud.store.writing(forget_everything)
    with keystone_cloud.api() as api:
        yield api


@pytest.fixture
def member(keystone_cloud: Cloud, admin: Api) -> Iterator[Api]:  # noqa: ARG001
    with keystone_cloud.api("member") as api:
        yield api


def ids(found: list[dict[str, Any]]) -> set[str]:
    return {item["id"] for item in found}


def test_the_panel_is_shown_because_of_its_extension(member: Api) -> None:
    found = member.request("GET", "/v2.0/extensions").json()["extensions"]
    assert "fwaas_v2" in [extension["alias"] for extension in found]


def test_the_form_for_ports_lists_those_of_the_project_with_all_that_it_shows(
    admin: Api, member: Api, keystone_cloud: Cloud
) -> None:
    p1, p2 = keystone_cloud.project("p1"), keystone_cloud.project("p2")
    ports = [
        admin.router_port(name="lan", project_id=p1)["id"],
        admin.make("port", device_owner="compute:nova", device_id="vm", project_id=p1)["id"],
    ]
    admin.router_port(project_id=p2)
    for api in (admin, member):
        shown = api.index("port", project_id=p1)
        assert ids(shown) == set(ports)
        for port in shown:
            assert {"id", "name", "device_owner", "device_id", "network_id"} <= port.keys()
            assert isinstance(port["device_owner"], str)


def test_the_page_of_a_group_asks_for_its_ports_by_id(admin: Api, member: Api, keystone_cloud: Cloud) -> None:
    first, second, _ = (admin.router_port(project_id=keystone_cloud.project("p1"))["id"] for _ in range(3))
    assert ids(member.index("port", id=[first, second])) == {first, second}


def test_the_page_of_a_policy_asks_for_its_rules(member: Api) -> None:
    inside = [member.make(RULE, name=name)["id"] for name in ("a", "b")]
    member.make(RULE, name="c")
    policy = member.make(POLICY, firewall_rules=inside)["id"]
    assert ids(member.index(RULE, firewall_policy_id=policy)) == set(inside)


def test_own_and_shared_objects_are_told_apart_by_what_a_list_shows(
    admin: Api, member: Api, keystone_cloud: Cloud
) -> None:
    """The panel asks for ``shared=True`` and for the others, and joins the two lists."""
    for kind in (RULE, POLICY, GROUP):
        shared = admin.make(kind, shared=True)["id"]
        own = member.make(kind, shared=False)["id"]
        assert ids(member.index(kind, shared="True")) == {shared}
        assert ids(member.index(kind, shared="False")) == {own}
        assert {item["id"]: (item["shared"], item["project_id"]) for item in member.index(kind)} == {
            shared: (True, keystone_cloud.project("admin")),
            own: (False, keystone_cloud.project("p1")),
        }


def test_the_forms_send_empty_places_and_versions_as_text(member: Api) -> None:
    first, second = (member.make(RULE, ip_version="4", shared=False, enabled=True)["id"] for _ in range(2))
    policy = member.make(POLICY, name="p", shared=False, audited=False, firewall_rules=[first])["id"]
    answer = member.insert(policy, firewall_rule_id=second, insert_before="", insert_after=first)
    assert (answer.status_code, answer.json()["firewall_rules"]) == (200, [first, second])


def test_networks_and_routers_are_not_here_and_say_so(member: Api) -> None:
    for path in ("/v2.0/networks", "/v2.0/routers"):
        answer = member.request("GET", path)
        assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (404, "HTTPNotFound")
