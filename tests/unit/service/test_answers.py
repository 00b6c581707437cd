"""From the database to what an agent holds: address sets, member by member, and agents of the release before."""

import random
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from sqlalchemy.orm import Session

from portward.channel.client import Client, Unusable
from portward.channel.messages import Index, StateAnswer, StateRequest, decode
from portward.model import Action, AddressSet, Policy
from portward.service import address_groups, address_sets, policies, ports, rules
from portward.service.address_groups import AddressGroupValues
from portward.service.answers import Bodies, answer
from portward.service.ports import PortValues
from portward.service.rules import RuleValues
from portward.store.tables import AddressSet as StoredSet
from portward.store.tables import AddressSetMember
from unit.service.world import World, sqlite


class Host:
    """Host h1 with its agent's client, and a port whose group applies a policy with one rule that names a set."""

    def __init__(self, directory: Path, *given: str) -> None:
        self.world = World(sqlite(directory))
        made = self.world.call(address_groups.create_address_group, AddressGroupValues(addresses=given))
        self.set = str(made.row.id)
        self.rule = self.world.rule(action="allow", source_address_group_id=self.set)
        self.policy = self.world.policy(self.rule)
        self.world.group(self.world.port(), ingress_firewall_policy_id=self.policy)
        self.bodies = Bodies()
        self.asked: list[StateRequest] = []
        self.sent: list[StateAnswer] = []
        self.client = Client("http://portward.test", "token", transport=httpx2.MockTransport(self._handle))

    def _handle(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(decode(request.content, StateRequest))
        content = self.ask(self.asked[-1])
        self.sent.append(decode(content, StateAnswer))
        return httpx2.Response(200, content=content)

    def ask(self, request: StateRequest) -> bytes:
        with self.world.store.read() as session:
            return answer(session, self.bodies, "h1", request).content

    def add(self, *given: str) -> None:
        self.world.call(address_groups.add_addresses, self.set, given)

    def remove(self, *given: str) -> None:
        self.world.call(address_groups.remove_addresses, self.set, given)

    def poll(self) -> set[str]:
        """The members of the one set that the agent holds after asking."""
        state = self.client.poll(wait=0)
        assert state is not None
        (held,) = state.sets
        return texts(held)


def texts(held: AddressSet) -> set[str]:
    """The members, which are none twice."""
    found = {str(member) for member in held.members}
    assert len(found) == len(held.members)
    return found


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def make(*given: str) -> Host:
        hosts.append(Host(tmp_path, *given))
        return hosts[-1]

    yield make
    for host in hosts:
        host.world.store.close()


def test_a_member_that_comes_or_goes_is_one_member_on_the_way(made: Callable[..., Host]) -> None:
    many = {f"10.0.{number // 250}.{number % 250}/32" for number in range(1000)}
    host = made(*many)
    assert host.poll() == many
    host.add("11.0.0.1/32")
    assert host.poll() == many | {"11.0.0.1/32"}
    host.remove("10.0.0.7/32")
    assert host.poll() == (many | {"11.0.0.1/32"}) - {"10.0.0.7/32"}
    changes = [message.sets for message in host.sent]
    assert [(len(change.added), len(change.removed)) for (change,) in changes] == [(1000, 0), (1, 0), (0, 1)]
    assert [len(message.bodies) for message in host.sent] == [1, 0, 0]
    assert host.client.poll(wait=0) is None


def test_whatever_came_and_went_meanwhile_an_agent_holds_what_the_database_does(
    made: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_sets, "_REMEMBERED", 6)
    chosen = random.Random(7)
    pool = [f"10.0.0.{number}/32" for number in range(12)]
    host, held = made(), set[str]()
    whole = 0
    for _ in range(150):
        some = set(chosen.sample(pool, chosen.randint(1, 3)))
        came, went = some - held, some & held
        held = (held | came) - went
        if came:
            host.add(*came)
        if went:
            host.remove(*went)
        if chosen.random() < 0.4:
            assert host.poll() == held
            whole += host.sent[-1].sets[0].since == 0
        with host.world.store.read() as session:
            assert session.query(AddressSetMember).filter(AddressSetMember.removed.is_not(None)).count() <= 6
    assert 1 < whole < len(host.sent) / 2


def test_a_firewall_group_named_anew_is_told_whole(made: Callable[..., Host]) -> None:
    host = made("10.0.0.1/32")
    machine = host.world.port(device_owner="compute:nova", fixed_ips=[{"ip_address": "10.0.0.8"}])
    group = host.world.group(machine)

    def name(**values: Any) -> None:
        host.world.call(rules.update_rule, host.rule, RuleValues(**values))

    name(source_address_group_id=None, source_firewall_group_id=group)
    assert host.poll() == {"10.0.0.8/32"}
    name(source_firewall_group_id=None, source_address_group_id=host.set)
    host.world.call(ports.update_port, machine, PortValues(fixed_ips=[{"ip_address": "10.0.0.9"}]))
    assert host.poll() == {"10.0.0.1/32"}
    name(source_address_group_id=None, source_firewall_group_id=group)
    assert host.poll() == {"10.0.0.9/32"}


def test_a_set_that_no_rule_of_the_host_names_any_more_is_gone(made: Callable[..., Host]) -> None:
    host = made("10.0.0.1/32")
    host.poll()
    host.world.call(policies.remove_rule, host.policy, host.rule)
    state = host.client.poll(wait=0)
    assert state is not None
    assert state.sets == ()
    host.add("10.0.0.2/32")
    host.client.poll(wait=0)
    assert (bytes(host.sent[-1].index), host.sent[-1].sets) == (b"null", ())


def test_what_becomes_of_a_disabled_rule_and_of_the_set_that_it_named_does_not_keep_a_host_from_its_state(
    made: Callable[..., Host],
) -> None:
    host = made("10.0.0.0/24")
    world = host.world
    other = str(world.call(address_groups.create_address_group, AddressGroupValues()).row.id)
    rule = world.rule(action="allow", source_address_group_id=other, enabled=False)
    world.call(policies.insert_rule, host.policy, rule)
    assert host.poll() == {"10.0.0.0/24"}
    world.call(rules.update_rule, rule, RuleValues(source_address_group_id=None))
    world.call(address_groups.delete_address_group, other)
    host.add("10.0.1.0/24")
    assert host.poll() == {"10.0.0.0/24", "10.0.1.0/24"}
    host.bodies = Bodies()  # of another server, or of this one restarted
    host.add("10.0.2.0/24")
    assert host.poll() == {"10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"}


def test_a_set_that_is_not_what_its_version_once_meant_is_asked_for_whole(made: Callable[..., Host]) -> None:
    host = made("10.0.0.1/32")
    host.poll()

    meant = decode(bytes(host.sent[-1].index), Index).sets[host.set]

    def restore(session: Session, _context: Any) -> None:
        address_sets.delete_set(session, host.set)
        address_sets.create_set(session, host.set, ["10.0.0.2/32"])
        session.query(StoredSet).update({"version": meant, "logged_since": meant})

    host.world.call(restore)
    with pytest.raises(Unusable):
        host.client.poll(wait=0)
    assert host.poll() == {"10.0.0.2/32"}


def test_more_sets_than_a_condition_has_parts_are_told(made: Callable[..., Host]) -> None:
    host = made("10.0.0.1/32")
    ids = [f"{number:036d}" for number in range(1100)]

    def create(session: Session, _context: Any) -> None:
        for id_ in ids:
            address_sets.create_set(session, id_, ["10.0.0.1/32"])

    host.world.call(create)
    with host.world.store.read() as session:
        versions = address_sets.versions_of(session, ids)
        changes = address_sets.changes_since(session, versions, {})
        assert {change.id: change.added for change in changes} == dict.fromkeys(ids, ("10.0.0.1/32",))
        later = {id_: version._replace(logged_since=1) for id_, version in versions.items()}
        changes = address_sets.changes_since(session, later, dict.fromkeys(ids, 1))
        assert {change.id: change.added for change in changes} == dict.fromkeys(ids, ("10.0.0.1/32",))


@pytest.mark.parametrize(
    "values",
    [
        {"source_address_group_id": "set"},
        {"destination_address_group_id": "set", "source_ip_address": "192.0.2.0/24"},
        {"protocol": "icmp", "icmp_type": 8},
    ],
)
def test_an_agent_one_release_older_allows_nothing_more_and_denies_nothing_less(
    made: Callable[..., Host], values: dict[str, Any]
) -> None:
    host = made("10.0.0.1/32")
    known = {key: host.set if value == "set" else value for key, value in values.items()}
    new = [host.world.rule(action=action, **known) for action in ("allow", "deny", "reject", "pass")]
    plain = host.world.rule(action="allow")
    policy = host.world.policy(new[0], new[1], new[2], new[3], plain)
    host.world.group(host.world.port(), stratum="admin", ingress_firewall_policy_id=policy)
    message = decode(host.ask(StateRequest(version=1)), StateAnswer)
    assert (message.version, message.sets, decode(bytes(message.index), Index).sets) == (1, (), {})
    told = {held.id: held.rules for held in (decode(bytes(body), Policy) for body in message.bodies)}
    assert told[host.policy] == ()
    expected = [(new[1], Action.DENY), (new[2], Action.REJECT), (new[3], Action.DENY), (plain, Action.ALLOW)]
    assert [(rule.id, rule.action) for rule in told[policy]] == expected
    source = ip_network(values["source_ip_address"]) if "source_ip_address" in values else None
    for rule in told[policy][:-1]:
        assert (rule.sets, rule.icmp_type, rule.source) == (frozenset(), None, source)
        assert msgspec.to_builtins(rule.protocol) == (1 if "protocol" in values else None)
    newer = decode(host.ask(StateRequest()), StateAnswer)
    assert host.rule in {rule.id for body in newer.bodies for rule in decode(bytes(body), Policy).rules}
