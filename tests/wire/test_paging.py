"""Pages and orders of lists: each item once, whatever its values, and links that lead through all of them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from portward.config import Database, Settings
from servers.fixtures import empty
from wire.conftest import UNKNOWN, Api, plural, running, settings

RULE, GROUP, PORT = "firewall_rule", "firewall_group", "port"
RULES = "/v2.0/fwaas/firewall_rules"


def page(api: Api, kind: str = RULE, **query: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The items of a page, and its links by what they are."""
    path = "/v2.0/ports" if kind == PORT else f"/v2.0/fwaas/{plural(kind)}"
    answer = api.request("GET", path, params=query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    links = body.get(f"{plural(kind)}_links", [])
    assert body.keys() == ({plural(kind), f"{plural(kind)}_links"} if query.get("limit") else {plural(kind)})
    return body[plural(kind)], {link["rel"]: link["href"] for link in links}


def follow(api: Api, href: str, kind: str = RULE) -> tuple[list[dict[str, Any]], dict[str, str]]:
    body = api.request("GET", href.removeprefix(api.url)).json()
    return body[plural(kind)], {link["rel"]: link["href"] for link in body[f"{plural(kind)}_links"]}


@pytest.fixture(scope="module")
def paging_server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    chosen = settings(tmp_path_factory.mktemp("paging")).model_copy(update={"database": Database(url=database_url)})
    with running(chosen) as url:
        yield url


@pytest.fixture
def api(paging_server: str, database_url: str) -> Iterator[Api]:
    """A client of a server that holds nothing yet, on each database."""
    empty(database_url)
    client = Api(paging_server)
    yield client
    client.http.close()


@pytest.fixture
def rules(api: Api) -> list[dict[str, Any]]:
    """Rules with all that makes sorting hard: nulls, equal values, other cases and alphabets, and blanks."""
    names = ["b", "a", "B", "", "ä", "a", "A ", "Z", "_", "\N{SNOWMAN}"]
    protocols = [None, "tcp", None, "udp", "tcp", None, "icmp", "tcp", None, "sctp"]
    pairs = zip(names, protocols, strict=True)
    return [api.make(RULE, name=name, protocol=protocol, enabled=name != "a") for name, protocol in pairs]


@pytest.mark.parametrize("limit", [1, 3, 10])
@pytest.mark.parametrize(
    "order",
    [[], ["name"], ["protocol"], ["protocol", "name"], ["enabled", "protocol"], ["created_at"], ["source_port"],
     ["revision_number", "id"], ["project_id", "tenant_id"]],
)  # fmt: skip
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_following_the_links_meets_each_item_once_in_order_and_back(
    api: Api, rules: list[dict[str, Any]], limit: int, order: list[str], direction: str
) -> None:
    sort = {"sort_key": order, "sort_dir": [direction] * len(order)}
    everything = [item["id"] for item in page(api, **sort)[0]]
    assert sorted(everything) == sorted(rule["id"] for rule in rules)
    items, links = page(api, limit=limit, **sort)
    pages = [items]
    while "next" in links:
        items, links = follow(api, links["next"])
        pages.append(items)
    assert [item["id"] for items in pages for item in items] == everything
    back = []
    while "previous" in links:
        items, links = follow(api, links["previous"])
        back = [*items, *back]
        if not items:
            break
    there = [item["id"] for item in back]
    assert there == everything[: len(there)]
    assert len(there) >= len(everything) - limit


@pytest.mark.usefixtures("rules")
def test_nulls_come_first_and_last_when_sorted_downwards(api: Api) -> None:
    def protocols(direction: str) -> list[str | None]:
        return [rule["protocol"] for rule in page(api, sort_key="protocol", sort_dir=direction)[0]]

    expected = [None] * 4 + ["icmp", "sctp", "tcp", "tcp", "tcp", "udp"]
    assert protocols("asc") == expected
    assert protocols("desc") == expected[::-1]


@pytest.mark.usefixtures("rules")
def test_a_later_key_orders_what_an_earlier_one_does_not(api: Api) -> None:
    found = page(api, sort_key=["enabled", "protocol"], sort_dir=["desc", "asc"])[0]
    assert [rule["enabled"] for rule in found] == sorted((rule["enabled"] for rule in found), reverse=True)
    for one, other in pairwise(found):
        if one["enabled"] == other["enabled"]:
            assert (one["protocol"] or "") <= (other["protocol"] or "")


def test_groups_are_sorted_by_their_status(api: Api) -> None:
    busy = api.make(GROUP, ports=[api.router_port()["id"]])
    idle = api.make(GROUP)
    found = page(api, GROUP, sort_key="status", sort_dir="asc")[0]
    assert [group["id"] for group in found] == [idle["id"], busy["id"]]
    items, links = page(api, GROUP, sort_key="status", sort_dir="desc", limit=1)
    assert [group["id"] for group in items + follow(api, links["next"], GROUP)[0]] == [busy["id"], idle["id"]]


def test_links_carry_the_query_and_the_marker_in_neutrons_order(api: Api, rules: list[dict[str, Any]]) -> None:
    everything = sorted(rule["id"] for rule in rules)
    items, links = page(api, limit=2, ip_version=4, fields="name")
    assert [item.keys() for item in items] == [{"name"}] * 2
    base = f"{api.url}{RULES}?limit=2&ip_version=4&fields=name&marker="
    assert links == {"next": base + everything[1], "previous": f"{base}{everything[0]}&page_reverse=True"}


def test_which_links_a_page_has(api: Api, rules: list[dict[str, Any]]) -> None:
    everything = sorted(rule["id"] for rule in rules)
    assert page(api, limit=10)[1].keys() == {"next", "previous"}  # full, though it is the last
    assert page(api, limit=11)[1].keys() == {"previous"}
    items, links = page(api, limit=3, marker=everything[2], page_reverse="True")
    assert ([item["id"] for item in items], links.keys()) == (everything[:2], {"next"})
    items, links = page(api, limit=3, marker=everything[9], page_reverse="true")
    assert ([item["id"] for item in items], links.keys()) == (everything[6:9], {"next", "previous"})


def test_a_limit_of_zero_is_none_and_its_marker_nothing(api: Api, rules: list[dict[str, Any]]) -> None:
    assert len(page(api, limit=0, marker=rules[0]["id"])[0]) == len(rules)
    assert len(page(api, marker=rules[0]["id"])[0]) == len(rules)
    assert len(page(api, limit="9" * 30)[0]) == len(rules)


@pytest.mark.parametrize("marker", [UNKNOWN, "nope", ""])
@pytest.mark.usefixtures("rules")
def test_nothing_comes_after_an_unknown_marker(api: Api, marker: str) -> None:
    assert page(api, limit=3, marker=marker)[0] == []


@pytest.mark.usefixtures("rules")
def test_a_page_holds_only_what_the_filters_leave(api: Api) -> None:
    items, links = page(api, limit=2, protocol="tcp", sort_key="name", sort_dir="asc")
    rest = follow(api, links["next"])[0]
    assert (len(items), len(rest)) == (2, 1)
    assert {rule["protocol"] for rule in items + rest} == {"tcp"}


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ({"limit": "x"}, "BadRequest", "Bad limit request: Limit must be an integer 0 or greater and not 'x'."),
        ({"limit": "-1"}, "BadRequest", "Bad limit request: Limit must be an integer 0 or greater and not '-1'."),
        ({"sort_key": "name"}, "HTTPBadRequest", "The number of sort_keys and sort_dirs must be same"),
        ({"sort_dir": "asc"}, "HTTPBadRequest", "The number of sort_keys and sort_dirs must be same"),
        (
            {"sort_key": "tags", "sort_dir": "asc"},
            "HTTPBadRequest",
            "['tags'] is invalid attribute for sort_keys",
        ),
        (
            {"sort_key": "name", "sort_dir": "up"},
            "HTTPBadRequest",
            "['up'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'",
        ),
    ],
)
def test_what_is_no_page_or_order_is_refused(api: Api, query: dict[str, str], kind: str, message: str) -> None:
    answer = api.request("GET", RULES, params=query)
    assert (answer.status_code, answer.json()["NeutronError"]) == (
        400,
        {"type": kind, "message": message, "detail": ""},
    )


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "fw.example.org:443, 10.0.0.1",
    "X-Forwarded-Prefix": "/network",
}


def test_a_proxys_headers_are_believed_only_if_the_operator_says_so(api: Api, tmp_path: Any) -> None:
    assert api.request("GET", "/", headers=FORWARDED).json()["versions"][0]["links"][0]["href"] == f"{api.url}/v2.0/"
    chosen: Settings = settings(tmp_path, trust_forwarded=True)
    with running(chosen) as url:
        behind = Api(url)
        href = behind.request("GET", "/", headers=FORWARDED).json()["versions"][0]["links"][0]["href"]
        assert href == "https://fw.example.org:443/network/v2.0/"
        behind.make(RULE)
        body = behind.request("GET", RULES, params={"limit": 1}, headers=FORWARDED).json()
        next_page = urlsplit(body["firewall_rules_links"][0]["href"])
        assert (next_page.netloc, next_page.path) == ("fw.example.org:443", f"/network{RULES}")
        assert dict(parse_qsl(next_page.query)).keys() == {"limit", "marker"}
        odd = {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a b", "X-Forwarded-Prefix": "//evil.example"}
        assert behind.request("GET", "/", headers=odd).json()["versions"][0]["links"][0]["href"] == f"{url}/v2.0/"
        behind.http.close()
