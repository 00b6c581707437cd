"""The whole agent against a real server, with a dataplane that only remembers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, select, update

from portward.agent.counting import Counting
from portward.agent.drivers import Drivers
from portward.agent.enforcer import Enforcer
from portward.agent.ledger import Ledger
from portward.agent.loop import Agent
from portward.agent.state_file import StateFile
from portward.channel.backoff import Backoff
from portward.channel.client import Client
from portward.model import HostState, PortKind
from portward.service.status import Status, group_statuses
from portward.store import tables
from unit.agent.dataplane import FakeDataplane
from unit.service.database import add_group, add_policy, add_port, add_rule, uuid
from wire.agent_server import AgentServer, agent_server, eventually, now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AgentServer]:
    with agent_server(tmp_path) as made:
        yield made


@pytest.fixture
def dataplane() -> Iterator[FakeDataplane]:
    made = FakeDataplane()
    yield made
    made.close()


class QuickClient(Client):
    """Waits a second for news, so that a test does not wait for an agent that waits."""

    def poll(self, *, wait: float = 1.0) -> HostState | None:
        return super().poll(wait=wait)


@contextmanager
def agent(server: AgentServer, token: str, directory: Path, dataplane: FakeDataplane) -> Iterator[Agent]:
    """A running agent; when the block ends it is gone, and what it enforces is not."""
    client = QuickClient(server.url, token)
    drivers = Drivers({PortKind.ROUTER: dataplane})
    enforcer = Enforcer(drivers, StateFile(directory / "agent"), retry=Backoff(0.05, 0.05))
    counting = Counting(drivers, Ledger(directory / "agent"))
    made = Agent(enforcer, client, counting, backoff=lambda: Backoff(0.01, 0.1))
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(10)
        assert not thread.is_alive()
        client.close()


def _one_port(server: AgentServer) -> int:
    def write(session) -> None:
        policy = add_policy(session, 5, rules=(add_rule(session, 3),), version=0)
        add_group(session, 7, ports=(add_port(session, 1),), ingress_firewall_policy_id=policy)

    return server.change(write)


def _set_action(server: AgentServer, action: str) -> int:
    def write(session) -> None:
        session.execute(update(tables.FirewallRule).values(action=action))
        session.execute(update(tables.FirewallPolicy).values(version=0))

    return server.change(write)


def _status(server: AgentServer) -> object:
    return server.read(lambda session: group_statuses(session, [uuid(7)], now())[uuid(7)])


def _actions(dataplane: FakeDataplane) -> list[str]:
    """What the rules in force do."""
    state = dataplane.in_force
    return [rule.action.value for policy in state.policies for rule in policy.rules] if state else []


def test_a_change_reaches_the_dataplane_and_the_group_becomes_active(server: AgentServer, tmp_path: Path, dataplane):
    _one_port(server)
    with agent(server, server.add_host("h1"), tmp_path, dataplane):
        eventually(lambda: _status(server) is Status.ACTIVE)
        assert _actions(dataplane) == ["allow"]
        generation = _set_action(server, "deny")
        eventually(lambda: _status(server) is Status.ACTIVE)

        assert _actions(dataplane) == ["deny"]
        assert dataplane.in_force is not None
        assert dataplane.in_force.generation == generation


def test_a_port_that_is_deleted_is_enforced_no_more(server: AgentServer, tmp_path: Path, dataplane: FakeDataplane):
    _one_port(server)
    with agent(server, server.add_host("h1"), tmp_path, dataplane):
        eventually(lambda: _status(server) is Status.ACTIVE)
        server.change(lambda session: session.execute(delete(tables.Port)))
        eventually(lambda: dataplane.in_force is not None and dataplane.in_force.ports == ())

        assert _status(server) is Status.INACTIVE


def test_a_restart_without_an_api_enforces_what_was_kept(server: AgentServer, tmp_path: Path, dataplane: FakeDataplane):
    _one_port(server)
    token = server.add_host("h1")
    with agent(server, token, tmp_path, dataplane):
        eventually(lambda: _status(server) is Status.ACTIVE)
    kept = dataplane.in_force
    server.stop()
    restarted = FakeDataplane()

    with agent(server, token, tmp_path, restarted):
        eventually(lambda: restarted.applied)
        assert restarted.in_force == kept
        server.start()
        generation = _set_action(server, "reject")
        eventually(lambda: _status(server) is Status.ACTIVE)

    assert _actions(restarted) == ["reject"]
    assert restarted.in_force is not None
    assert restarted.in_force.generation == generation
    restarted.close()


def test_a_damaged_state_on_disk_is_not_enforced_and_the_api_repairs_it(server: AgentServer, tmp_path: Path, dataplane):
    _one_port(server)
    token = server.add_host("h1")
    with agent(server, token, tmp_path, dataplane):
        eventually(lambda: _status(server) is Status.ACTIVE)
    kept = tmp_path / "agent" / "state.json"
    kept.write_bytes(kept.read_bytes().replace(b"allow", b"deny_", 1))
    restarted = FakeDataplane()

    with agent(server, token, tmp_path, restarted):
        eventually(lambda: restarted.applied)

    assert restarted.applied == [dataplane.in_force]
    kept_again = StateFile(tmp_path / "agent").load()
    assert kept_again is not None
    assert replace(kept_again, admitted=()) == dataplane.in_force
    restarted.close()


def test_a_port_in_error_is_an_error_of_its_group_until_a_retry_heals_it(
    server: AgentServer, tmp_path: Path, dataplane
):
    dataplane.errors[uuid(1)] = "no such device"
    _one_port(server)
    with agent(server, server.add_host("h1"), tmp_path, dataplane):
        eventually(lambda: _status(server) is Status.ERROR)
        reason = server.read(lambda session: session.scalar(select(tables.PortError.reason)))
        assert reason == "no such device"
        dataplane.errors.clear()
        eventually(lambda: _status(server) is Status.ACTIVE)


def test_a_vm_port_is_an_error_that_says_so(server: AgentServer, tmp_path: Path, dataplane: FakeDataplane):
    server.change(lambda session: add_group(session, 7, ports=(add_port(session, 1, device_owner="compute:nova"),)))
    with agent(server, server.add_host("h1"), tmp_path, dataplane):
        eventually(lambda: _status(server) is Status.ERROR)

    reason = server.read(lambda session: session.scalar(select(tables.PortError.reason)))
    assert reason == "no dataplane of this host realises VM ports"


def test_a_revoked_host_keeps_enforcing_and_learns_nothing_new(server: AgentServer, tmp_path: Path, dataplane):
    _one_port(server)
    with agent(server, server.add_host("h1"), tmp_path, dataplane):
        eventually(lambda: _status(server) is Status.ACTIVE)
        server.revoke("h1")
        _set_action(server, "deny")
        eventually(lambda: not server.held)

        assert _actions(dataplane) == ["allow"]
        assert _status(server) is Status.PENDING_UPDATE


def test_an_agent_follows_a_database_that_was_restored(server: AgentServer, tmp_path: Path, dataplane: FakeDataplane):
    _one_port(server)
    with agent(server, server.add_host("h1"), tmp_path, dataplane):
        for action in ("deny", "reject", "allow"):
            generation = _set_action(server, action)
        eventually(lambda: _status(server) is Status.ACTIVE)
        server.stop()

        def go_back(session) -> None:
            session.execute(update(tables.State).values(generation=generation - 2))
            session.execute(update(tables.FirewallGroup).values(generation=generation - 2))
            session.execute(update(tables.FirewallPolicy).values(version=generation - 2))
            session.execute(update(tables.FirewallRule).values(action="deny"))
            session.execute(update(tables.Host).values(realised_generation=generation - 3))

        server.store.writing(go_back)
        server.start()
        eventually(lambda: _actions(dataplane) == ["deny"])
        eventually(lambda: _status(server) is Status.ACTIVE)

    assert dataplane.in_force is not None
    assert dataplane.in_force.generation == generation - 2
