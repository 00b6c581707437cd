"""What a call costs the database, from the request to the answer: a constant, however long the lists."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, event

from portward.config import DefaultFirewallGroup, Quotas
from wire.conftest import Api, path, running, settings

RULE, POLICY, GROUP, PORT = "firewall_rule", "firewall_policy", "firewall_group", "port"
AT_MOST = 15
UNLIMITED = Quotas(firewall_rule=-1, firewall_policy=-1, firewall_group=-1)


class Sized:
    """A server with ``size`` rules in each of ``size`` policies, applied by a group of ``size`` VM ports."""

    def __init__(self, url: str, size: int) -> None:
        self.api = api = Api(url)
        api.index(GROUP)
        self.extra = api.make(RULE)["id"]
        self.rules = [api.make(RULE)["id"] for _ in range(size)]
        self.policies = [api.make(POLICY, firewall_rules=self.rules)["id"] for _ in range(size)]
        vm = {"device_owner": "compute:nova", "binding:host_id": "h1"}
        self.ports = [api.make(PORT, **vm)["id"] for _ in range(2 * size)]
        policy = self.policies[0]
        applied = {"ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
        self.group = api.make(GROUP, ports=self.ports[:size], **applied)["id"]
        self.empty = api.make(GROUP)["id"]
        self.default = api.index(GROUP, name="default")[0]["id"]


def _tags(made: Sized) -> httpx2.Response:
    return made.api.request("PUT", f"{path(RULE)}/{made.rules[0]}/tags", json={"tags": ["a", "b"]})


#: One call of each kind, in an order in which each finds what it needs.
CALLS: dict[str, Callable[[Sized], Any]] = {
    "create rule": lambda made: made.api.post(RULE, protocol="tcp", destination_port="80"),
    "list rules": lambda made: made.api.request("GET", path(RULE)),
    "list rules by tag, sorted, a page": lambda made: made.api.request(
        "GET", path(RULE), params={"tags": "a", "sort_key": "name", "sort_dir": "desc", "limit": 2}
    ),
    "show rule": lambda made: made.api.get(RULE, made.rules[0]),
    "change rule": lambda made: made.api.put(RULE, made.rules[0], action="allow", name="x"),
    "tag rule": _tags,
    "create policy": lambda made: made.api.post(POLICY, firewall_rules=made.rules),
    "list policies": lambda made: made.api.request("GET", path(POLICY)),
    "count rules": lambda made: made.api.request("GET", f"{path(POLICY)}/{made.policies[0]}/counters"),
    "insert rule": lambda made: made.api.insert(made.policies[0], firewall_rule_id=made.extra),
    "remove rule": lambda made: made.api.remove(made.policies[0], firewall_rule_id=made.extra),
    "reorder": lambda made: made.api.put(POLICY, made.policies[0], name="x", firewall_rules=made.rules[::-1]),
    "delete rule": lambda made: made.api.delete(RULE, made.extra),
    "create group of VM ports": lambda made: made.api.post(
        GROUP, ports=made.ports[len(made.ports) // 2 :], ingress_firewall_policy_id=made.policies[0]
    ),
    "list groups": lambda made: made.api.request("GET", path(GROUP), params={"status": "ACTIVE"}),
    "show group": lambda made: made.api.get(GROUP, made.group),
    "realisation": lambda made: made.api.request("GET", f"{path(GROUP)}/{made.group}/realisation"),
    "change group whole": lambda made: made.api.put(
        GROUP, made.group, name="x", admin_state_up=False, ports=[], egress_firewall_policy_id=made.policies[-1]
    ),
    "change default group": lambda made: made.api.put(GROUP, made.default, ports=[]),
    "delete group": lambda made: made.api.delete(GROUP, made.empty),
    "create group over all ports": lambda made: made.api.post(
        GROUP, stratum="admin", scope="all", egress_firewall_policy_id=made.policies[0]
    ),
    "who decides for a port": lambda made: made.api.request("GET", f"/v2.0/fwaas/effective/{made.ports[0]}"),
    "create VM port": lambda made: made.api.post(PORT, device_owner="compute:nova"),
    "list ports": lambda made: made.api.request("GET", path(PORT)),
    "change port": lambda made: made.api.put(PORT, made.ports[0], **{"binding:host_id": "h2"}),
    "delete port": lambda made: made.api.delete(PORT, made.ports[0]),
}


@contextmanager
def _sent() -> Iterator[list[str]]:
    """The SQL that this process sends, without the frame of transactions."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """For each call what it sent, on a small server and on a large one."""
    found: dict[str, list[list[str]]] = {name: [] for name in CALLS}
    for size in (2, 40):
        chosen = settings(tmp_path_factory.mktemp("size")).model_copy(
            update={"default_firewall_group": DefaultFirewallGroup(), "quotas": UNLIMITED}
        )
        with running(chosen) as url:
            made = Sized(url, size)
            for name, call in CALLS.items():
                with _sent() as statements:
                    answer = call(made)
                assert answer.is_success, answer.text
                found[name].append(statements)
            made.api.http.close()
    return found


@pytest.mark.parametrize("name", CALLS)
def test_a_call_sends_the_same_number_of_statements_on_small_and_large(
    costs: dict[str, list[list[str]]], name: str
) -> None:
    small, large = costs[name]
    assert 0 < len(small) == len(large) <= AT_MOST, large
