"""Filters and fields of lists."""

import pytest

from wire.conftest import UNKNOWN, Api

RULE, POLICY, GROUP = "firewall_rule", "firewall_policy", "firewall_group"


def names(api: Api, kind: str, **query: object) -> list[str]:
    return sorted(item["name"] for item in api.index(kind, **query))


def test_a_repeated_filter_means_or_and_different_ones_mean_and(api: Api) -> None:
    for name, action in (("a", "allow"), ("b", "deny"), ("c", "allow"), ("", "deny")):
        api.make(RULE, name=name, action=action)
    assert names(api, RULE, name="a") == ["a"]
    assert names(api, RULE, name=["a", "b"]) == ["a", "b"]
    assert names(api, RULE, name=["a", "b"], action="ALLOW") == ["a"]
    assert names(api, RULE, name="") == [""]
    assert names(api, RULE, name="A%") == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"shared": "True"}, ["a"]),
        ({"shared": "0"}, ["b"]),
        ({"enabled": "false"}, ["b"]),
        ({"protocol": "6"}, ["a"]),
        ({"protocol": "any"}, ["b"]),
        ({"protocol": ["any", "tcp"]}, ["a", "b"]),
        ({"ip_version": "6"}, ["b"]),
        ({"source_ip_address": "10.0.0.1/24"}, ["a"]),
        ({"source_ip_address": ""}, ["b"]),
        ({"destination_port": "80"}, ["a"]),
        ({"tenant_id": "p1"}, ["a"]),
        ({"project_id": ["p1", "p2"]}, ["a", "b"]),
        ({"description": "x"}, ["a"]),
        ({"revision_number": "0"}, ["a", "b"]),
        ({"id": UNKNOWN}, []),
        ({"id": "nope"}, []),
    ],
)
def test_filters_read_values_as_the_attributes_do(api: Api, query: dict[str, object], found: list[str]) -> None:
    api.make(
        RULE,
        name="a",
        shared=True,
        protocol="tcp",
        destination_port=80,
        source_ip_address="10.0.0.1/24",
        project_id="p1",
        description="x",
    )
    api.make(RULE, name="b", enabled=False, ip_version=6, project_id="p2")
    assert names(api, RULE, **query) == found


def test_lists_are_filtered_by_membership(api: Api) -> None:
    rule = api.make(RULE, name="r")["id"]
    api.make(RULE, name="other")
    policy = api.make(POLICY, name="p", firewall_rules=[rule])["id"]
    api.make(POLICY, name="other")
    port = api.router_port()["id"]
    api.make(GROUP, name="g", ports=[port], ingress_firewall_policy_id=policy)
    api.make(GROUP, name="other")
    assert names(api, RULE, firewall_policy_id=policy) == ["r"]
    assert names(api, POLICY, firewall_rules=[rule, UNKNOWN]) == ["p"]
    assert names(api, GROUP, ports=port) == ["g"]
    assert names(api, GROUP, ingress_firewall_policy_id=policy) == ["g"]
    assert names(api, GROUP, egress_firewall_policy_id=policy) == []
    assert names(api, GROUP, status="PENDING_CREATE") == ["g"]
    assert names(api, GROUP, status=["INACTIVE", "PENDING_CREATE"]) == ["g", "other"]


def test_what_is_no_filter_is_refused(api: Api) -> None:
    for query in ({"foo": "1"}, {"created_at": "x"}, {"foo": "1", "name": "x"}):
        answer = api.request("GET", "/v2.0/fwaas/firewall_rules", params=query)
        assert answer.status_code == 400
        name = next(iter(query))
        assert answer.json()["NeutronError"] == {
            "type": "HTTPBadRequest",
            "message": f"['{name}'] is invalid attribute for filtering",
            "detail": "",
        }
    bad = api.request("GET", "/v2.0/fwaas/firewall_rules", params={"shared": "zzz"})
    assert (bad.status_code, bad.json()["NeutronError"]["type"]) == (400, "InvalidInput")
    assert api.request("GET", "/v2.0/fwaas/firewall_rules?name=%00").status_code == 400


def test_fields_select_what_is_shown(api: Api) -> None:
    rule = api.make(RULE, name="a")
    assert api.index(RULE, fields=["id", "name"]) == [{"id": rule["id"], "name": "a"}]
    assert api.show(RULE, rule["id"], fields="name") == {"name": "a"}
    assert api.show(RULE, rule["id"], fields="bogus") == {}
    assert api.show(RULE, rule["id"], foo="ignored on an item") == rule
