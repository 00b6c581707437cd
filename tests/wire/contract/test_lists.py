"""Lists: filters, order, pages, fields, tags, many at once, and who sees what."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from wire.conftest import UNKNOWN, Api, path, plural
from wire.contract.cloud import (
    GROUP,
    POLICY,
    RULE,
    Cloud,
    Personas,
    denied,
    listed,
    not_found,
    refused,
    router_port,
    rules,
    unchanged,
)

KINDS = [RULE, POLICY, GROUP]


def test_a_list_is_filtered_by_what_all_kinds_have(admin: Api, member: Api, stranger: Api) -> None:
    """Behaviour 72."""
    for kind in KINDS:
        ours = member.make(kind, name="a", description="ours")["id"]
        theirs = stranger.make(kind, name="a")["id"]
        shared = admin.make(kind, name="", shared=True, project_id="p2")["id"]
        everything = {ours, theirs, shared}
        for query, expected in (
            ({"name": "a"}, {ours, theirs}),
            ({"name": ""}, {shared}),
            ({"name": ["a", ""]}, everything),
            ({"name": "b"}, set()),
            ({"id": ours}, {ours}),
            ({"id": [ours, shared]}, {ours, shared}),
            ({"id": UNKNOWN}, set()),
            ({"project_id": "p1"}, {ours}),
            ({"tenant_id": "p2"}, {theirs, shared}),
            ({"project_id": "p2", "name": "a"}, {theirs}),
            ({"description": "ours"}, {ours}),
            ({"shared": "True"}, {shared}),
            ({"shared": "false"}, {ours, theirs}),
            ({"shared": "1", "name": "a"}, set()),
            ({"revision_number": "0"}, everything),
        ):
            assert set(listed(admin, kind, **query)) == expected, query
        assert set(listed(member, kind, project_id="p2")) == {shared}
        assert listed(member, kind, id=theirs) == []


def test_rules_are_filtered_by_their_own_attributes(member: Api) -> None:
    """Behaviour 72. Difference 3."""
    web = member.make(RULE, protocol="tcp", destination_port="80", action="allow")["id"]
    dns = member.make(RULE, protocol="udp", source_port="1:2", ip_version=6, source_ip_address="2001:db8::/32")["id"]
    off = member.make(RULE, enabled=False, destination_ip_address="10.0.0.1/24")["id"]
    policy = member.make(POLICY, firewall_rules=[web, off])["id"]
    for query, expected in (
        ({"protocol": "tcp"}, {web}),
        ({"protocol": ["tcp", "udp"]}, {web, dns}),
        ({"ip_version": "6"}, {dns}),
        ({"action": "deny"}, {dns, off}),
        ({"enabled": "False"}, {off}),
        ({"source_ip_address": "2001:db8::/32"}, {dns}),
        ({"destination_ip_address": "10.0.0.1/24"}, {off}),
        ({"source_port": "1:2"}, {dns}),
        ({"destination_port": "80"}, {web}),
        ({"destination_port": "81"}, set()),
        ({"firewall_policy_id": policy}, {web, off}),
        ({"firewall_policy_id": UNKNOWN}, set()),
    ):
        assert set(listed(member, RULE, **query)) == expected, query


def test_policies_and_groups_are_filtered_by_their_own_attributes(admin: Api, member: Api) -> None:
    """Behaviour 72."""
    rule = member.make(RULE)["id"]
    holder = member.make(POLICY, firewall_rules=[rule], audited=True)["id"]
    empty = member.make(POLICY)["id"]
    port = router_port(admin)
    covering = member.make(GROUP, ports=[port], ingress_firewall_policy_id=holder)["id"]
    down = member.make(GROUP, admin_state_up=False, egress_firewall_policy_id=holder)["id"]
    for kind, query, expected in (
        (POLICY, {"firewall_rules": rule}, {holder}),
        (POLICY, {"audited": "True"}, {holder}),
        (POLICY, {"audited": "False"}, {empty}),
        (GROUP, {"ports": port}, {covering}),
        (GROUP, {"ports": UNKNOWN}, set()),
        (GROUP, {"status": "PENDING_CREATE"}, {covering}),
        (GROUP, {"status": "INACTIVE"}, {down}),
        (GROUP, {"status": ["INACTIVE", "PENDING_CREATE"]}, {covering, down}),
        (GROUP, {"ingress_firewall_policy_id": holder}, {covering}),
        (GROUP, {"egress_firewall_policy_id": holder}, {down}),
        (GROUP, {"ingress_firewall_policy_id": empty}, set()),
        (GROUP, {"admin_state_up": "false"}, {down}),
    ):
        assert set(listed(member, kind, **query)) == expected, (kind, query)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["foo", "created_at", "updated_at", "insert_before"])
def test_a_filter_that_is_none_is_refused(member: Api, kind: str, name: str) -> None:
    """Behaviour 72."""
    answer = member.request("GET", path(kind), params={name: "1"})
    refused(answer, 400, "HTTPBadRequest", f"['{name}'] is invalid attribute for filtering")


@pytest.mark.parametrize("kind", KINDS)
def test_a_filters_value_is_one_that_the_attribute_can_have(member: Api, kind: str) -> None:
    """Behaviour 72."""
    answer = member.request("GET", path(kind), params={"shared": "zzz"})
    refused(answer, 400, "InvalidInput", "Invalid input for operation: 'zzz' cannot be converted to boolean.")


def test_unknown_keys_beside_an_item_or_a_creation_are_passed_over(member: Api) -> None:
    """Behaviour 72."""
    answer = member.request("POST", f"{path(RULE)}?foo=1", json={RULE: {}})
    assert answer.status_code == 201
    id_ = answer.json()[RULE]["id"]
    assert member.request("GET", f"{path(RULE)}/{id_}?foo=1").json()[RULE]["id"] == id_


def test_a_list_is_sorted_as_asked(member: Api) -> None:
    """Behaviour 73. Difference 3."""
    for name, description in (("b", "1"), ("c", "1"), ("a", "2")):
        member.make(RULE, name=name, description=description)

    def names(**query: Any) -> list[str]:
        return [rule["name"] for rule in member.index(RULE, **query)]

    assert names(sort_key="name", sort_dir="desc") == ["c", "b", "a"]
    assert names(sort_key="name", sort_dir="asc") == ["a", "b", "c"]
    assert names(sort_key=["description", "name"], sort_dir=["desc", "asc"]) == ["a", "b", "c"]
    assert names(sort_key=["description", "name"], sort_dir=["asc", "desc"]) == ["c", "b", "a"]


SCALARS = [
    "id",
    "name",
    "description",
    "shared",
    "project_id",
    "tenant_id",
    "revision_number",
    "created_at",
    "updated_at",
]
OWN = {
    RULE: ["protocol", "ip_version", "source_ip_address", "destination_ip_address", "source_port", "destination_port",
           "action", "enabled"],
    POLICY: ["audited"],
    GROUP: ["admin_state_up", "status", "ingress_firewall_policy_id", "egress_firewall_policy_id"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in KINDS for key in SCALARS + OWN[kind]])
def test_every_scalar_attribute_sorts(member: Api, kind: str, key: str) -> None:
    """Behaviour 73. Difference 3."""
    for number in range(3):
        member.make(kind, name=str(number))
    up = member.index(kind, sort_key=key, sort_dir="asc")
    down = member.index(kind, sort_key=key, sort_dir="desc")
    known = [item[key] for item in up if item[key] is not None]
    assert known == sorted(known)
    assert [item[key] for item in down if item[key] is not None] == known[::-1]
    assert {item["id"] for item in up} == {item["id"] for item in down}


@pytest.mark.parametrize(
    "query",
    [
        {"sort_key": "name"},
        {"sort_dir": "asc"},
        {"sort_key": ["name", "id"], "sort_dir": "asc"},
        {"sort_key": "foo", "sort_dir": "asc"},
        {"sort_key": "name", "sort_dir": "up"},
    ],
)
def test_an_order_that_is_none_is_refused(member: Api, query: dict[str, Any]) -> None:
    """Behaviour 73."""
    answer = member.request("GET", path(RULE), params=query)
    assert answer.status_code == 400
    said = answer.json()["NeutronError"]["message"]
    if len(query.get("sort_key", [])) != len(query.get("sort_dir", [])) and "foo" not in query.values():
        assert "sort" in said


def test_sort_keys_and_directions_come_in_pairs(member: Api) -> None:
    """Behaviour 73."""
    answer = member.request("GET", path(RULE), params={"sort_key": ["name", "id"], "sort_dir": "asc"})
    refused(answer, 400, "HTTPBadRequest", "The number of sort_keys and sort_dirs must be same")


def links(answer: Any, kind: str) -> dict[str, str]:
    return {link["rel"]: link["href"] for link in answer.json().get(f"{plural(kind)}_links", [])}


@pytest.mark.parametrize("kind", KINDS)
def test_following_the_links_visits_each_item_once(member: Api, kind: str) -> None:
    """Behaviour 73."""
    made = {member.make(kind, name="n")["id"] for _ in range(5)}
    query = {"limit": 2, "name": "n", "fields": ["id"], "sort_key": "name", "sort_dir": "desc"}
    answer = member.request("GET", path(kind), params=query)
    visited: list[list[str]] = []
    while True:
        assert all(item.keys() == {"id"} for item in answer.json()[plural(kind)])
        visited.append([item["id"] for item in answer.json()[plural(kind)]])
        following = links(answer, kind)
        if "next" not in following:
            break
        href = urlsplit(following["next"])
        asked = parse_qs(href.query)
        assert f"{href.scheme}://{href.netloc}" == member.url
        assert asked["marker"] == visited[-1][-1:]
        assert (asked["limit"], asked["name"], asked["fields"]) == (["2"], ["n"], ["id"])
        answer = member.request("GET", following["next"])
    assert [len(page) for page in visited] == [2, 2, 1]
    assert {id_ for page in visited for id_ in page} == made
    back = links(answer, kind)["previous"]
    assert parse_qs(urlsplit(back).query)["page_reverse"] == ["True"]
    for page in visited[-2::-1]:
        answer = member.request("GET", back)
        assert [item["id"] for item in answer.json()[plural(kind)]] == page
        back = links(answer, kind).get("previous", "")


def test_a_full_page_has_a_next_link_even_if_it_was_the_last(member: Api) -> None:
    """Behaviour 73."""
    rules(member, 2)
    answer = member.request("GET", path(RULE), params={"limit": 2})
    assert links(answer, RULE).keys() == {"next", "previous"}
    assert member.request("GET", links(answer, RULE)["next"]).json()["firewall_rules"] == []
    answer = member.request("GET", path(RULE), params={"limit": 3})
    assert links(answer, RULE).keys() == {"previous"}


@pytest.mark.parametrize("query", [{}, {"limit": 0}, {"limit": 0, "marker": UNKNOWN}, {"marker": UNKNOWN}])
def test_without_a_limit_there_is_one_page_and_no_link(member: Api, query: dict[str, Any]) -> None:
    """Behaviour 73."""
    made = rules(member, 3)
    answer = member.request("GET", path(RULE), params=query)
    assert answer.json().keys() == {"firewall_rules"}
    assert sorted(rule["id"] for rule in answer.json()["firewall_rules"]) == sorted(made)


def test_a_page_after_an_unknown_item_is_empty(member: Api) -> None:
    """Behaviour 73."""
    rules(member, 3)
    assert listed(member, RULE, limit=2, marker=UNKNOWN) == []
    assert listed(member, RULE, limit=2, marker="nope") == []


@pytest.mark.parametrize("limit", ["x", "-1", "1.5", ""])
def test_a_limit_is_a_number(member: Api, limit: str) -> None:
    """Behaviour 73."""
    answer = member.request("GET", path(RULE), params={"limit": limit})
    said = f"Bad limit request: Limit must be an integer 0 or greater and not '{limit}'."
    refused(answer, 400, "BadRequest", said)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_fields_that_were_asked_for_are_told(member: Api, kind: str) -> None:
    """Behaviour 74."""
    made = member.make(kind, name="a")
    expected = {"id": made["id"], "name": "a"}
    assert member.index(kind, fields=["id", "name"]) == [expected]
    assert member.show(kind, made["id"], fields=["id", "name"]) == expected
    assert member.index(kind, fields=["id", "bogus"]) == [{"id": made["id"]}]
    assert member.show(kind, made["id"], fields="bogus") == {}


@pytest.mark.parametrize("kind", KINDS)
def test_many_are_made_at_once_or_none(admin: Api, member: Api, kind: str) -> None:
    """Behaviour 74. Difference 11."""
    url, many = path(kind), plural(kind)
    answer = member.request("POST", url, json={many: [{"name": "a"}, {"name": "b"}]})
    assert answer.status_code == 201
    assert answer.json().keys() == {many}
    assert [item["name"] for item in answer.json()[many]] == ["a", "b"]
    assert {item["id"]: item for item in answer.json()[many]} == {item["id"]: item for item in member.index(kind)}
    with unchanged(admin):
        for bad in (
            {many: [{"name": "c"}, {"name": None}]},
            {many: [{"name": "c"}, {"foo": 1}]},
            {many: [{"name": "c"}, 7]},
            {many: [{"name": "c"}, {"project_id": "p2"}]},
            {many: {}},
            {many: "x"},
            {many: [], kind: {}},
        ):
            answer = member.request("POST", url, json=bad)
            assert answer.status_code == 400, (bad, answer.text)
            assert "NeutronError" in answer.json()


def test_many_of_which_one_may_not_be_made_are_none(admin: Api, member: Api) -> None:
    """Behaviour 74. Difference 11."""
    with unchanged(admin):
        answer = member.request("POST", path(RULE), json={"firewall_rules": [{}, {"shared": True}]})
        denied(answer, "create_firewall_rule", "create_firewall_rule:shared")
        answer = member.request("POST", path(POLICY), json={"firewall_policies": [{}, {"firewall_rules": [UNKNOWN]}]})
        not_found(answer, RULE, UNKNOWN)
        answer = member.request("POST", path(GROUP), json={"firewall_groups": [{}, {"name": "default"}]})
        refused(answer, 409, "FirewallDefaultParameterExists")


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_set_shown_and_filtered_by(member: Api, kind: str) -> None:
    """Behaviour 75. Difference 3."""
    tagged, half, other = (member.make(kind)["id"] for _ in range(3))
    answer = member.request("PUT", f"{path(kind)}/{tagged}/tags", json={"tags": ["red", "blue"]})
    assert answer.status_code == 200
    assert sorted(answer.json()["tags"]) == ["blue", "red"]
    member.request("PUT", f"{path(kind)}/{half}/tags", json={"tags": ["red"]})
    assert sorted(member.show(kind, tagged)["tags"]) == ["blue", "red"]
    assert member.show(kind, other)["tags"] == []
    assert set(listed(member, kind, tags="red")) == {tagged, half}
    assert set(listed(member, kind, tags="red,blue")) == {tagged}
    assert listed(member, kind, tags="green") == []


def test_tags_are_set_by_whoever_may_change_the_item(admin: Api, member: Api, reader: Api, stranger: Api) -> None:
    """Behaviour 75."""
    rule = member.make(RULE)["id"]
    url = f"{path(RULE)}/{rule}/tags"
    with unchanged(admin):
        assert reader.request("PUT", url, json={"tags": ["x"]}).status_code == 403
        not_found(stranger.request("PUT", url, json={"tags": ["x"]}), RULE, rule)
        for bad in ({}, {"tags": "x"}, {"tags": [7]}, {"tags": ["x" * 256]}, {"tags": [""]}, []):
            assert member.request("PUT", url, json=bad).status_code == 400, bad


@pytest.mark.parametrize("kind", KINDS)
def test_lists_show_the_own_and_the_shared_and_an_admin_everything(who: Personas, kind: str) -> None:
    """Behaviour 76."""
    ours = who.member.make(kind)["id"]
    theirs = who.stranger.make(kind)["id"]
    shared = who.admin.make(kind, shared=True)["id"]
    assert set(listed(who.admin, kind)) == {ours, theirs, shared}
    assert set(listed(who.member, kind)) == set(listed(who.reader, kind)) == {ours, shared}
    assert set(listed(who.stranger, kind)) == set(listed(who.foreign_reader, kind)) == {theirs, shared}


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_without_roles_sees_nothing_and_leaves_nothing(cloud: Cloud, kind: str) -> None:
    """Behaviour 76."""
    with unchanged(cloud.plain.admin):
        assert cloud.defaults.roleless.index(kind) == []
    own, shared = cloud.plain.member.make(kind)["id"], cloud.plain.admin.make(kind, shared=True)["id"]
    with unchanged(cloud.plain.admin):
        assert cloud.defaults.roleless.index(kind) == []
        for id_ in (own, shared):
            assert cloud.plain.roleless.get(kind, id_).status_code in (403, 404)
            assert cloud.plain.roleless.put(kind, id_, name="x").status_code in (403, 404)
            assert cloud.plain.roleless.delete(kind, id_).status_code in (403, 404)
        denied(cloud.plain.roleless.post(kind), f"create_{kind}")
