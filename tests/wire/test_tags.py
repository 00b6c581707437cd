"""Tags: a sub-resource of every resource, and filters of every list."""

import pytest

from wire.conftest import UNKNOWN, Api, path

KINDS = ["firewall_rule", "firewall_policy", "firewall_group", "port"]
RULE = "firewall_rule"


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_replaced_added_confirmed_and_removed(api: Api, kind: str) -> None:
    tags = f"{path(kind)}/{api.make(kind)['id']}/tags"
    assert api.request("GET", tags).json() == {"tags": []}
    answer = api.request("PUT", tags, json={"tags": ["b", "a", "b"]})
    assert (answer.status_code, answer.json()) == (200, {"tags": ["a", "b"]})
    assert api.request("POST", tags, json={"tags": ["c", "a"]}).json() == {"tags": ["a", "b", "c"]}
    assert [api.request("GET", f"{tags}/{tag}").status_code for tag in ("c", "d")] == [204, 404]
    added = api.request("PUT", f"{tags}/d.json")
    assert (added.status_code, added.content) == (201, b"")
    assert api.request("PUT", f"{tags}/d.json").status_code == 201
    assert api.request("DELETE", f"{tags}/a").status_code == 204
    gone = api.request("DELETE", f"{tags}/a")
    assert (gone.status_code, gone.json()["NeutronError"]["message"]) == (404, "Tag a could not be found.")
    assert api.show(kind, tags.split("/")[-2])["tags"] == api.index(kind)[0]["tags"] == ["b", "c", "d.json"]
    assert api.request("DELETE", tags).status_code == 204
    assert api.request("GET", tags).json() == {"tags": []}


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_filtered_by_tags(api: Api, kind: str) -> None:
    for name, tags in (("none", []), ("a", ["a"]), ("b", ["b"]), ("ab", ["a", "b"])):
        item = api.make(kind, name=name)
        api.request("PUT", f"{path(kind)}/{item['id']}/tags", json={"tags": tags})

    def found(**query: str) -> set[str]:
        return {item["name"] for item in api.index(kind, **query)}

    assert found(tags="a") == {"a", "ab"}
    assert found(tags="a,b") == {"ab"}
    assert found(**{"tags-any": "a,b"}) == {"a", "b", "ab"}
    assert found(**{"not-tags": "a,b"}) == {"none", "a", "b"}
    assert found(**{"not-tags-any": "a,b"}) == {"none"}
    assert found(tags="c") == set()
    assert found(**{"tags": "a", "not-tags": "b"}) == {"a"}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"tags": "a"}', b'{"tags": [1]}', b'{"tags": [""]}', b'{"tags": ["a,b"]}',
     b'{"tags": ["' + b"x" * 256 + b'"]}', b'{"tags": [], "more": 1}', b'{"tags": [null]}',
     b'{"tags": [' + b",".join(b'"%d"' % number for number in range(51)) + b"]}"],
)  # fmt: skip
def test_what_are_no_tags_is_refused_and_changes_nothing(api: Api, body: bytes) -> None:
    rule = api.make(RULE)
    tags = f"{path(RULE)}/{rule['id']}/tags"
    assert [api.request(method, tags, content=body).status_code for method in ("PUT", "POST")] == [400, 400]
    assert api.show(RULE, rule["id"]) == rule


def test_an_item_bears_fifty_tags_at_most(api: Api) -> None:
    tags = f"{path(RULE)}/{api.make(RULE)['id']}/tags"
    assert api.request("PUT", tags, json={"tags": [str(number) for number in range(50)]}).status_code == 200
    assert api.request("PUT", f"{tags}/0").status_code == 201
    assert api.request("PUT", f"{tags}/50").status_code == 400
    assert api.request("POST", tags, json={"tags": ["50"]}).status_code == 400
    assert len(api.request("GET", tags).json()["tags"]) == 50


def test_tags_of_nothing_are_not_found(api: Api) -> None:
    tags = f"{path(RULE)}/{UNKNOWN}/tags"
    for method, where in (("GET", tags), ("PUT", f"{tags}/a"), ("DELETE", tags), ("GET", f"{tags}/a")):
        answer = api.request(method, where)
        assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (404, "FirewallRuleNotFound")


def test_tags_are_no_part_of_a_post_or_put(api: Api) -> None:
    assert api.post(RULE, tags=["a"]).status_code == 400
    assert api.put(RULE, api.make(RULE)["id"], tags=["a"]).status_code == 400


def test_a_change_of_tags_counts_as_a_revision(api: Api) -> None:
    rule = api.make(RULE)
    tags = f"{path(RULE)}/{rule['id']}/tags"
    stale = {"If-Match": "revision_number=7"}
    assert api.request("PUT", tags, json={"tags": ["a"]}, headers=stale).status_code == 412
    api.request("PUT", tags, json={"tags": ["a"]}, headers={"If-Match": "revision_number=0"})
    assert api.show(RULE, rule["id"])["revision_number"] == 1


@pytest.mark.parametrize("name", ["tags", "not-tags", "name"])
def test_a_query_of_very_many_values_is_refused(api: Api, name: str) -> None:
    answer = api.request("GET", "/v2.0/fwaas/firewall_rules", params={name: [f"v{number}" for number in range(1001)]})
    assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (400, "HTTPBadRequest")
    answer = api.request("GET", "/v2.0/fwaas/firewall_rules", params={name: [f"v{number}" for number in range(1000)]})
    assert answer.status_code == 200
