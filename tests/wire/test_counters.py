"""Counters over HTTP: from the agents' listener to those who own the policy, and to nobody else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest

from portward.channel.client import Client, Refused
from portward.channel.messages import COUNTERS_PATH, MAX_COUNT, MAX_COUNTERS, CountersMessage, Total, encode
from portward.service.agents import add_host
from portward.store import Store, now
from wire.conftest import UNKNOWN, Api, path, serving, settings
from wire.contract.cloud import GROUP, POLICY, RULE, Personas, denied, refused, write_users

SINCE = datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)


class Cloud:
    """A server, those who use it, and the agent of host ``h1`` by hand."""

    def __init__(self, urls: tuple[str, str], database: str) -> None:
        self.who = Personas(urls[0])
        self.agents_url = urls[1]
        store = Store(database)
        self.token = store.writing(partial(add_host, name="h1", now=now()))
        store.close()
        self.agent = Client(urls[1], self.token)

    def count(self, rule_id: str, packets: int) -> None:
        self.agent.count({rule_id: total(packets)})


def total(packets: int) -> Total:
    return Total(packets=packets, bytes=100 * packets, since=SINCE, last=SINCE + timedelta(hours=1))


def counters(api: Api, policy: str) -> httpx2.Response:
    return api.request("GET", f"{path(POLICY)}/{policy}/counters")


def packets(api: Api, policy: str) -> list[int | None]:
    answer = counters(api, policy)
    assert answer.status_code == 200, answer.text
    return [rule["packets"] for rule in answer.json()["counters"]]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("counters")
    chosen = settings(directory).model_copy(update={"auth": write_users(directory)})
    with serving(chosen) as urls:
        made = Cloud(urls, chosen.database.url)
        yield made
        made.agent.close()
        made.who.close()


def enforced(cloud: Cloud, api: Api, *rules: str, **attributes: Any) -> str:
    """A policy of ``rules`` that a port of h1 enforces."""
    policy: str = api.make(POLICY, firewall_rules=list(rules), **attributes)["id"]
    project = api.show(POLICY, policy)["project_id"]
    port = cloud.who.admin.router_port(project_id=project)["id"]
    api.make(GROUP, project_id=project, ports=[port], ingress_firewall_policy_id=policy)
    return policy


def test_the_owner_reads_what_the_host_counted_in_the_policys_order(cloud: Cloud) -> None:
    member = cloud.who.member
    first, second = (member.make(RULE, name=name, action="allow")["id"] for name in ("first", "second"))
    policy = enforced(cloud, member, second, first)
    cloud.count(first, 7)
    cloud.count(first, 7)
    untouched = {"packets": 0, "bytes": 0, "last": None, "since": None}
    assert counters(cloud.who.reader, policy).json() == {
        "counters": [
            {"rule_id": second, "rule_name": "second", "action": "allow", **untouched},
            {
                "rule_id": first,
                "rule_name": "first",
                "action": "allow",
                "packets": 7,
                "bytes": 700,
                "last": "2026-01-02T04:04:05Z",
                "since": "2026-01-02T03:04:05Z",
            },
        ]
    }


def test_counts_survive_a_reorder_and_are_no_edit(cloud: Cloud) -> None:
    member = cloud.who.member
    rules = [member.make(RULE)["id"] for _ in range(2)]
    policy = enforced(cloud, member, *rules)
    before = member.show(POLICY, policy)
    cloud.count(rules[0], 3)
    assert member.show(POLICY, policy) == before
    member.change(POLICY, policy, firewall_rules=rules[::-1])
    assert packets(member, policy) == [0, 3]


def test_who_sees_a_shared_policy_does_not_see_what_it_counts(cloud: Cloud) -> None:
    """It decides about the traffic of several projects, and nobody tells whose was counted."""
    who = cloud.who
    rule = who.admin.make(RULE, project_id="p1", shared=True)["id"]
    policy = enforced(cloud, who.admin, rule, project_id="p1", shared=True)
    cloud.count(rule, 5)
    assert packets(who.admin, policy) == packets(who.reader, policy) == [5]
    assert who.stranger.get(POLICY, policy).status_code == 200
    denied(counters(who.stranger, policy), "get_firewall_policy_counters")
    who.admin.make(GROUP, project_id="p2", ingress_firewall_policy_id=policy)
    denied(counters(who.stranger, policy), "get_firewall_policy_counters")


def test_the_counts_of_another_projects_rule_are_not_shown_in_a_policy_of_ones_own(cloud: Cloud) -> None:
    who = cloud.who
    foreign = who.admin.make(RULE, project_id="p1", shared=True)["id"]
    enforced(cloud, who.admin, foreign, project_id="p1")
    cloud.count(foreign, 5)
    own = who.stranger.make(RULE)["id"]
    policy = who.stranger.make(POLICY, firewall_rules=[foreign, own])["id"]
    assert packets(who.stranger, policy) == [None, 0]
    assert packets(who.admin, policy) == [5, 0]


def test_a_policy_that_is_not_there_for_the_caller_is_not_found(cloud: Cloud) -> None:
    policy = cloud.who.member.make(POLICY)["id"]
    for unseen in (UNKNOWN, "x", policy):
        refused(counters(cloud.who.stranger, unseen), 404, "FirewallPolicyNotFound")
    assert packets(cloud.who.member, policy) == []


def test_a_host_counts_the_rules_that_it_enforces_and_no_others(cloud: Cloud) -> None:
    member = cloud.who.member
    rule = member.make(RULE)["id"]
    policy = member.make(POLICY, firewall_rules=[rule])["id"]
    port = cloud.who.admin.router_port(project_id="p1", **{"binding:host_id": "h2"})["id"]
    member.make(GROUP, ports=[port], ingress_firewall_policy_id=policy)
    cloud.agent.count({rule: total(5), UNKNOWN: total(1), "\0'": total(1)})
    assert packets(member, policy) == [0]


@pytest.mark.parametrize(
    "totals",
    [
        {"packets": -1},
        {"packets": MAX_COUNT + 1},
        {"packets": 1.5},
        {"since": "yesterday"},
        {"since": "2026-01-02T03:04:05"},
        {"since": None},
        {"bytes": None},
    ],
)
def test_numbers_that_are_none_are_refused(cloud: Cloud, totals: dict[str, Any]) -> None:
    good = {"packets": 1, "bytes": 1, "since": "2026-01-02T03:04:05Z", "last": None}
    headers = {"Authorization": f"Bearer {cloud.token}"}
    answers = [
        httpx2.post(
            cloud.agents_url + COUNTERS_PATH,
            json={"version": 1, "rules": {UNKNOWN: good | change}},
            headers=headers,
            trust_env=False,
        ).status_code
        for change in ({}, totals)
    ]
    assert answers == [200, 400]


def test_without_a_token_or_with_too_many_rules_nothing_is_taken(cloud: Cloud) -> None:
    client = Client(cloud.agents_url, "wrong")
    with pytest.raises(Refused):
        client.count({})
    client.close()
    with pytest.raises(Refused):
        cloud.agent.count({str(number): total(1) for number in range(MAX_COUNTERS + 1)})
    cloud.agent.count({str(number): total(1) for number in range(MAX_COUNTERS)})


def test_a_message_of_this_release_is_the_same_in_the_next() -> None:
    """The form is fixed: a server serves agents one release older."""
    assert encode(CountersMessage(rules={"r": total(1)})) == (
        b'{"version":2,"rules":{"r":{"packets":1,"bytes":100,"since":"2026-01-02T03:04:05.999999Z",'
        b'"last":"2026-01-02T04:04:05.999999Z"}}}'
    )
