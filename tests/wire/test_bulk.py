"""Many at once: all or none."""

import pytest

from wire.conftest import Api, path, plural

RULE = "firewall_rule"


@pytest.mark.parametrize("kind", [RULE, "firewall_policy", "firewall_group", "port"])
def test_many_are_made_in_one_request_and_in_order(api: Api, kind: str) -> None:
    answer = api.request("POST", path(kind), json={plural(kind): [{"name": "a"}, {"name": "b"}, {}]})
    assert answer.status_code == 201
    made = answer.json()[plural(kind)]
    assert [item["name"] for item in made] == ["a", "b", ""]
    assert made == [api.show(kind, item["id"]) for item in made]


@pytest.mark.parametrize(
    "bad", [{"name": None}, {"foo": 1}, [], "x", None, {"source_port": 80}, {"project_id": "p", "tenant_id": "q"}]
)
def test_one_bad_item_and_nothing_is_made(api: Api, bad: object) -> None:
    assert api.request("POST", path(RULE), json={"firewall_rules": [{"name": "a"}, bad]}).status_code == 400
    assert api.index(RULE) == []


@pytest.mark.parametrize("items", [[], {}, "x", None, [{}] * 1001])
def test_what_is_no_list_of_items_is_refused(api: Api, items: object) -> None:
    assert api.request("POST", path(RULE), json={"firewall_rules": items}).status_code == 400
    assert api.index(RULE) == []


def test_one_and_many_do_not_mix(api: Api) -> None:
    both = {"firewall_rules": [{}], "firewall_rule": {}}
    assert api.request("POST", path(RULE), json=both).status_code == 400
    assert api.request("PUT", f"{path(RULE)}/{api.make(RULE)['id']}", json={"firewall_rules": [{}]}).status_code == 400
