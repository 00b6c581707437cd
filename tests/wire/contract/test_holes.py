"""Ways around the rules that must not exist: by order, by race, by strange names, and by what an answer gives away."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from wire.conftest import UNKNOWN, Api, path, plural
from wire.contract.cloud import (
    COMPUTE,
    GROUP,
    POLICY,
    PORT,
    ROUTER,
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
    vm_port,
)

KINDS = [RULE, POLICY, GROUP]


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_is_judged_by_its_body_then_by_sight_then_by_right_then_by_revision(
    admin: Api, member: Api, reader: Api, stranger: Api, kind: str
) -> None:
    """Behaviours 17, 19, 34."""
    id_ = member.make(kind)["id"]
    member.change(kind, id_, name="x")
    item = f"{path(kind)}/{id_}"
    old: dict[str, Any] = {"headers": {"If-Match": "revision_number=0"}}
    body = {kind: {"name": "y"}}
    with unchanged(admin):
        for who in (member, reader, stranger):
            refused(who.put(kind, id_, foo=1), 400, "HTTPBadRequest", "Unrecognized attribute(s) 'foo'")
        not_found(stranger.request("PUT", item, json=body, **old), kind, id_)
        not_found(stranger.request("DELETE", item, **old), kind, id_)
        denied(reader.request("PUT", item, json=body, **old), f"update_{kind}")
        denied(reader.request("DELETE", item, **old), f"delete_{kind}")
        assert member.request("PUT", f"{item}/tags", json={"tags": ["x"]}, **old).status_code == 412


def test_a_marker_tells_nothing_of_what_its_user_does_not_see(member: Api, stranger: Api) -> None:
    """Behaviours 73, 76."""
    hidden = [member.make(RULE, name=name)["id"] for name in ("b", "d")]
    rules(stranger, 3, name="c")
    for marker in (*hidden, UNKNOWN):
        assert listed(stranger, RULE, limit=5, marker=marker, sort_key="name", sort_dir="asc") == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_filter_widens_a_list(member: Api, stranger: Api, roleless: Api, kind: str) -> None:
    """Behaviour 76."""
    hidden = member.make(kind, name="secret")
    member.request("PUT", f"{path(kind)}/{hidden['id']}/tags", json={"tags": ["t"]})
    for who in (stranger, roleless):
        for query in (
            {"id": hidden["id"]},
            {"project_id": "p1"},
            {"tenant_id": ["p1", "p2"]},
            {"name": "secret"},
            {"tags": "t"},
            {"shared": ["true", "false"]},
            {"limit": 10, "page_reverse": "True"},
            {"sort_key": "name", "sort_dir": "desc"},
        ):
            assert who.index(kind, **query) == [], query


def test_a_list_of_rules_tells_nothing_of_policies_that_its_user_does_not_see(
    admin: Api, member: Api, stranger: Api
) -> None:
    """Behaviours 25, 76."""
    rule = admin.make(RULE, shared=True, project_id="p1")["id"]
    hidden = member.make(POLICY, firewall_rules=[rule])["id"]
    assert listed(stranger, RULE) == [rule]
    assert listed(stranger, RULE, firewall_policy_id=hidden) == []
    assert listed(member, RULE, firewall_policy_id=hidden) == listed(admin, RULE, firewall_policy_id=hidden) == [rule]
    admin.change(POLICY, hidden, shared=True)
    assert listed(stranger, RULE, firewall_policy_id=hidden) == [rule]


def test_names_are_compared_letter_by_letter_on_every_database(member: Api) -> None:
    """Behaviour 72."""
    names = ["a", "A", "a ", "ä", "ａ", "🔥", "'; --", "%", "_", "\\", "a\n"]
    made = {name: member.make(RULE, name=name, description=name)["id"] for name in names}
    for name, id_ in made.items():
        assert listed(member, RULE, name=name) == [id_], name
        assert listed(member, RULE, description=name) == [id_], name
        assert member.show(RULE, id_)["name"] == name
    for kind in (POLICY, GROUP):
        for name in ("Default", "default ", "DEFAULT INGRESS", "default ingress ", "ｄefault"):
            assert member.make(kind, name=name)["name"] == name


def test_tags_are_compared_letter_by_letter_on_every_database(member: Api) -> None:
    """Behaviour 75."""
    rule = member.make(RULE)["id"]
    tags = ["a", "A", "a ", "ä", "🔥"]
    answer = member.request("PUT", f"{path(RULE)}/{rule}/tags", json={"tags": tags})
    assert answer.status_code == 200, answer.text
    assert sorted(member.show(RULE, rule)["tags"]) == sorted(tags)
    assert listed(member, RULE, tags="A") == [rule]
    assert listed(member, RULE, tags="Ä") == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": str(10**30)},
        {"limit": str(2**63)},
        {"limit": "1", "marker": ""},
        {"limit": ["1", "2"]},
        {"limit": "٣"},
        {"revision_number": str(10**30)},
        {"revision_number": "x"},
        {"revision_number": "-1"},
        {"ip_version": str(10**30)},
        {"ip_version": "5"},
        {"protocol": "bogus"},
        {"action": "pass"},
        {"source_port": "99999999"},
        {"source_ip_address": "x" * 300},
        {"firewall_policy_id": "nope"},
        {"page_reverse": "maybe", "limit": "1"},
        {"sort_key": "firewall_policy_id", "sort_dir": "asc"},
        {"sort_key": "tags", "sort_dir": "asc"},
        {"sort_key": ["name", "name"], "sort_dir": ["asc", "desc"]},
        {"fields": "x" * 5000},
        {"name": ["x"] * 500},
        {"id": [UNKNOWN] * 500},
        {"tags": ",,"},
        {"": "x"},
    ],
)
def test_no_query_breaks_a_list(member: Api, query: dict[str, Any]) -> None:
    """Behaviours 72, 73."""
    rules(member, 1)
    answer = member.request("GET", path(RULE), params=query)
    assert answer.status_code in (200, 400), answer.text
    assert "NeutronError" in answer.json() or "firewall_rules" in answer.json()


def test_an_unsharing_and_a_use_exclude_each_other(admin: Api, member: Api, stranger: Api) -> None:
    """Behaviours 26, 37. Difference 13."""
    rule = admin.make(RULE, shared=True, project_id="p1")["id"]
    policy = admin.make(POLICY, shared=True, project_id="p1", firewall_rules=[rule])["id"]
    theirs = stranger.make(POLICY, firewall_rules=[rule])["id"]
    with unchanged(admin):
        refused(admin.put(RULE, rule, shared=False, action="allow"), 409, "FirewallRuleInUse")
    admin.change(POLICY, policy, shared=False)
    with unchanged(admin):
        refused(admin.put(RULE, rule, shared=False), 409, "FirewallRuleInUse")
    assert stranger.remove(theirs, firewall_rule_id=rule).status_code == 200
    assert admin.change(RULE, rule, shared=False)["shared"] is False
    with unchanged(admin):
        refused(admin.put(POLICY, policy, shared=True), 409, "FirewallPolicySharingConflict")
        not_found(stranger.insert(theirs, firewall_rule_id=rule), RULE, rule)
    assert member.show(POLICY, policy)["firewall_rules"] == [rule]


def test_what_a_project_may_no_longer_see_it_does_not_apply(admin: Api, stranger: Api) -> None:
    """Behaviours 37, 55."""
    policy = admin.make(POLICY, shared=True, project_id="p1")["id"]
    group = stranger.make(GROUP)["id"]
    admin.change(POLICY, policy, shared=False)
    with unchanged(admin):
        not_found(stranger.put(GROUP, group, ingress_firewall_policy_id=policy), POLICY, policy)
        not_found(admin.put(GROUP, group, ingress_firewall_policy_id=policy), POLICY, policy)


def test_making_many_is_no_way_around_sharing(admin: Api, member: Api) -> None:
    """Behaviours 28, 29, 30. Difference 11."""
    rule = member.make(RULE)["id"]
    with unchanged(admin):
        many = [{"project_id": "p1"}, {"project_id": "p2", "firewall_rules": [rule]}]
        answer = admin.request("POST", path(POLICY), json={plural(POLICY): many})
        refused(answer, 409, "FirewallRuleConflict")
        many = [{"project_id": "p1"}, {"project_id": "p1", "shared": True, "firewall_rules": [rule]}]
        answer = admin.request("POST", path(POLICY), json={plural(POLICY): many})
        refused(answer, 404, "FirewallRuleSharingConflict")


def test_many_groups_in_one_request_do_not_share_a_port(admin: Api, member: Api) -> None:
    """Behaviour 53. Difference 11."""
    port = router_port(admin)
    with unchanged(admin):
        answer = member.request("POST", path(GROUP), json={plural(GROUP): [{"ports": [port]}, {"ports": [port]}]})
        refused(answer, 409, "FirewallGroupPortInUse")


def test_of_ten_groups_that_want_one_port_at_once_one_has_it(admin: Api, member: Api) -> None:
    """Behaviour 53."""
    port = router_port(admin)
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: member.post(GROUP, ports=[port]), range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    (group,) = member.index(GROUP)
    assert group["ports"] == [port]


def test_a_quota_holds_against_many_at_once(default: Personas) -> None:
    """Behaviour 71."""
    with ThreadPoolExecutor(15) as threads:
        answers = list(threads.map(lambda _: default.member.post(GROUP), range(15)))
    assert sorted(answer.status_code for answer in answers) == [201] * 9 + [409] * 6
    assert len(default.member.index(GROUP)) == 10


def test_a_policy_is_not_deleted_while_a_group_begins_to_apply_it(admin: Api, member: Api) -> None:
    """Behaviour 36."""
    policy = member.make(POLICY)["id"]
    groups = [member.make(GROUP)["id"] for _ in range(5)]

    def act(group: str | None) -> int:
        if group is None:
            return member.delete(POLICY, policy).status_code
        return member.put(GROUP, group, ingress_firewall_policy_id=policy).status_code

    with ThreadPoolExecutor(6) as threads:
        codes = list(threads.map(act, [*groups[:2], None, *groups[2:]]))
    deleted = codes[2] == 204
    assert codes[2] in (204, 409)
    assert all(code in (200, 404) for code in codes[:2] + codes[3:])
    assert (member.get(POLICY, policy).status_code == 404) is deleted
    applying = [group["ingress_firewall_policy_id"] for group in admin.index(GROUP)]
    assert deleted is (set(applying) == {None})


def homes(admin: Api) -> dict[str, list[str]]:
    """The names of the groups that cover each port, as `project/name`."""
    groups = admin.index(GROUP)
    return {
        port["id"]: [f"{group['project_id']}/{group['name']}" for group in groups if port["id"] in group["ports"]]
        for port in admin.index(PORT)
    }


def test_a_vm_port_is_always_in_exactly_one_group(default: Personas) -> None:
    """Behaviour 53. Difference 16."""
    admin = default.admin
    vm, theirs, other = vm_port(admin), vm_port(admin, "p2"), admin.make(PORT, project_id="p1")["id"]
    assert homes(admin) == {vm: ["p1/default"], theirs: ["p2/default"], other: []}
    admin.change(PORT, other, device_owner=COMPUTE)
    assert homes(admin)[other] == ["p1/default"]
    group = admin.make(GROUP, name="g", project_id="p1", ports=[vm, theirs, other])["id"]
    assert homes(admin) == {vm: ["p1/g"], theirs: ["p1/g"], other: ["p1/g"]}
    admin.change(GROUP, group, ports=[other])
    assert homes(admin) == {vm: ["p1/default"], theirs: ["p2/default"], other: ["p1/g"]}
    admin.change(PORT, other, device_owner="network:dhcp")
    assert homes(admin)[other] == []
    admin.change(PORT, vm, device_owner=ROUTER, device_id=UNKNOWN)
    assert homes(admin)[vm] == []
    assert admin.delete(PORT, theirs).status_code == 204
    assert all(theirs not in group["ports"] for group in admin.index(GROUP))


def test_a_vm_port_that_moves_is_never_open_in_between(default: Personas) -> None:
    """Behaviour 53. Difference 16."""
    admin, member = default.admin, default.member
    vm = vm_port(admin)
    group = member.make(GROUP, name="g")["id"]
    seen: set[int] = set()

    def look(_: int) -> None:
        for _ in range(10):
            seen.add(len(member.index(GROUP, ports=vm)))

    with ThreadPoolExecutor(3) as threads:
        looking = [threads.submit(look, number) for number in range(2)]
        for number in range(10):
            member.change(GROUP, group, ports=[vm] if number % 2 == 0 else [])
        for one in looking:
            one.result()
    assert seen == {1}


def test_a_foreign_vm_in_a_members_group_is_not_kept_from_its_project(default: Personas) -> None:
    """Behaviour 54. Difference 16."""
    admin, member, stranger = default.admin, default.member, default.stranger
    theirs = vm_port(admin, "p2")
    (home,) = stranger.index(GROUP)
    with unchanged(admin):
        not_found(member.post(GROUP, ports=[theirs]), PORT, theirs)
    assert stranger.show(GROUP, home["id"])["ports"] == [theirs]


@pytest.mark.parametrize("change", [{"shared": True}, {"shared": False}])
def test_default_objects_are_no_exception_to_who_may_share(default: Personas, change: dict[str, bool]) -> None:
    """Behaviours 23, 70."""
    member, stranger = default.member, default.stranger
    for kind in KINDS:
        id_ = listed(member, kind)[0]
        with unchanged(default.admin):
            assert member.put(kind, id_, **change).status_code in (403, 409)
            not_found(stranger.put(kind, id_, name="x"), kind, id_)
            denied(default.reader.put(kind, id_, name="x"), f"update_{kind}")
            denied(default.reader.delete(kind, id_), f"delete_{kind}")


def test_a_refused_creation_of_many_leaves_no_tag_no_port_and_no_rule_behind(cloud: Cloud) -> None:
    """Behaviour 74. Difference 11."""
    admin, member = cloud.plain.admin, cloud.plain.member
    port, rule = router_port(admin), member.make(RULE)["id"]
    with unchanged(admin):
        for kind, good, bad in (
            (GROUP, {"ports": [port]}, {"ports": [UNKNOWN]}),
            (POLICY, {"firewall_rules": [rule]}, {"firewall_rules": [UNKNOWN]}),
            (RULE, {"protocol": "tcp"}, {"protocol": None, "source_port": "80"}),
        ):
            answer = member.request("POST", path(kind), json={plural(kind): [good, good | bad]})
            assert answer.status_code in (400, 404, 409)
    assert member.make(GROUP, ports=[port])["ports"] == [port]
    assert member.delete(RULE, rule).status_code == 204
