"""The agents' listener: tokens, states, waiting, reports."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, event, select, text, update
from structlog.testing import capture_logs

from portward.api.agent_app import MAX_BODY
from portward.channel.messages import (
    MAX_PORTS,
    REPORT_PATH,
    STATE_PATH,
    Index,
    StateAnswer,
    StateRequest,
    decode,
    encode,
)
from portward.model import Policy
from portward.service.status import Status, group_statuses
from portward.store import tables
from unit.service.database import add_group, add_policy, add_port, add_rule, uuid
from wire.agent_server import AgentServer, Host, agent_server, eventually, now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AgentServer]:
    with agent_server(tmp_path) as made:
        yield made


@pytest.fixture
def host(server: AgentServer) -> Iterator[Host]:
    made = Host(server, server.add_host("h1"))
    yield made
    made.close()


def _one_port(server: AgentServer) -> int:
    """Group 7 covers port 1 of h1 with policy 5, which has rule 3."""

    def write(session) -> None:
        policy = add_policy(session, 5, rules=(add_rule(session, 3),), version=0)
        add_group(session, 7, ports=(add_port(session, 1),), ingress_firewall_policy_id=policy)

    return server.change(write)


def _deny(server: AgentServer) -> int:
    """Rule 3 denies from now on."""

    def write(session) -> None:
        session.execute(update(tables.FirewallRule).values(action="deny"))
        session.execute(update(tables.FirewallPolicy).values(version=0))

    return server.change(write)


def _held(answer: StateAnswer) -> StateRequest:
    """What an agent that has taken ``answer``, whole, asks next."""
    index = decode(bytes(answer.index), Index)
    return StateRequest(generation=answer.generation, digest=answer.digest, policies=index.policies)


def _bodies(answer: StateAnswer) -> list[Policy]:
    return [decode(bytes(body), Policy) for body in answer.bodies]


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", "Basic Og==", "?"])
def test_without_a_known_token_there_is_nothing(server: AgentServer, header: str | None):
    nobody = Host(server, "x")
    del nobody._http.headers["authorization"]
    if header is not None:
        nobody._http.headers["authorization"] = header

    for path in (STATE_PATH, REPORT_PATH):
        response = nobody.post(path, b"not even looked at")
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    nobody.close()


def test_an_agent_that_holds_nothing_gets_everything_at_once(server: AgentServer, host: Host):
    generation = _one_port(server)

    answer = host.ask(wait=30)

    index = decode(bytes(answer.index), Index)
    assert answer.generation == generation
    assert [covered.port.id for covered in index.ports] == [uuid(1)]
    assert index.policies == {uuid(5): generation}
    assert [policy.id for policy in _bodies(answer)] == [uuid(5)]


def test_a_host_that_enforces_nothing_is_told_so_at_once(host: Host):
    answer = host.ask(wait=30)

    assert decode(bytes(answer.index), Index) == Index()


def test_a_host_sees_its_own_ports_alone(server: AgentServer):
    _one_port(server)
    other = Host(server, server.add_host("h2"))

    assert decode(bytes(other.ask().index), Index) == Index()
    other.close()


def test_without_news_the_answer_comes_after_the_wait_without_an_index(server: AgentServer, host: Host):
    _one_port(server)
    held = _held(host.ask())

    began = time.monotonic()
    answer = host.ask(held, wait=0.3)

    assert 0.29 <= time.monotonic() - began < 5
    assert bytes(answer.index) == b"null"
    assert (answer.generation, answer.digest, answer.bodies) == (held.generation, held.digest, ())


def _waiting(host: Host, held: StateRequest) -> tuple[threading.Thread, list[tuple[float, StateAnswer]]]:
    """A thread in which ``host`` waits for news; what came, and when."""
    came: list[tuple[float, StateAnswer]] = []

    def wait() -> None:
        answer = host.ask(held, wait=15)
        came.append((time.monotonic(), answer))

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, came


def test_a_commit_wakes_a_waiting_agent_within_100_ms(server: AgentServer, host: Host):
    _one_port(server)
    held = _held(host.ask())
    delays = []
    for _ in range(5):
        thread, came = _waiting(host, held)
        eventually(lambda: server.held)
        time.sleep(0.05)  # it is waiting by now; were it not, the claim would only be easier
        _deny(server)
        committed = time.monotonic()
        thread.join(20)
        delays.append(came[0][0] - committed)
        held = _held(came[0][1])

    assert sorted(delays)[2] < 0.1


def test_only_what_changed_is_sent(server: AgentServer, host: Host):
    _one_port(server)
    server.change(
        lambda session: add_group(
            session, 8, ports=(add_port(session, 2),), egress_firewall_policy_id=add_policy(session, 6)
        )
    )
    held = _held(host.ask())
    generation = _deny(server)

    answer = host.ask(
        StateRequest(generation=held.generation, digest=held.digest, policies={**held.policies, uuid(6): generation})
    )

    assert [policy.id for policy in _bodies(answer)] == [uuid(5)]
    assert _bodies(answer)[0].rules[0].action == "deny"


def test_a_port_that_left_its_group_is_gone(server: AgentServer, host: Host):
    _one_port(server)
    held = _held(host.ask())
    server.change(lambda session: session.execute(delete(tables.GroupPort)))

    assert decode(bytes(host.ask(held, wait=15).index), Index) == Index(admitted=(uuid(1),))  # still the router's


def test_a_change_elsewhere_does_not_wake_a_host_that_it_does_not_concern(server: AgentServer, host: Host):
    held = _held(host.ask())
    thread, came = _waiting(host, StateRequest(**{**_as_dict(held)}))
    eventually(lambda: server.held)

    server.change(lambda session: add_group(session, 8, ports=(add_port(session, 2, host="h2"),)))

    thread.join(0.3)
    assert came == []
    server.change(lambda session: add_group(session, 9, ports=(add_port(session, 3),)))
    thread.join(20)
    assert len(came) == 1


def _as_dict(request: StateRequest) -> dict[str, object]:
    return {name: getattr(request, name) for name in request.__struct_fields__}


def test_a_group_that_changed_on_another_host_is_news_without_an_index(server: AgentServer, host: Host):
    server.change(lambda session: add_group(session, 7, ports=(add_port(session, 1), add_port(session, 2, host="h2"))))
    held = _held(host.ask())
    leave = delete(tables.GroupPort).where(tables.GroupPort.port_id == uuid(2))
    generation = server.change(lambda session: session.execute(leave))

    began = time.monotonic()
    answer = host.ask(held, wait=15)

    assert time.monotonic() - began < 10
    assert answer.generation == generation
    assert bytes(answer.index) == b"null"


def test_an_agent_ahead_of_a_restored_database_gets_everything_at_once(server: AgentServer, host: Host):
    generation = _one_port(server)
    held = _held(host.ask())
    ahead = StateRequest(generation=generation + 100, digest=held.digest, policies=held.policies)

    answer = host.ask(ahead, wait=15)

    assert answer.generation == generation
    assert [policy.id for policy in _bodies(answer)] == [uuid(5)]
    assert decode(bytes(answer.index), Index).policies == held.policies


def test_a_token_that_is_revoked_while_its_host_waits_gets_401(server: AgentServer, host: Host):
    _one_port(server)
    held = _held(host.ask())
    statuses: list[int] = []
    request = encode(StateRequest(**{**_as_dict(held), "wait": 15.0}))
    thread = threading.Thread(target=lambda: statuses.append(host.post(STATE_PATH, request).status_code))
    thread.start()
    eventually(lambda: server.held)

    server.revoke("h1")
    server.change(lambda session: add_group(session, 9))
    thread.join(10)

    assert statuses == [401]


def test_a_database_that_went_back_while_a_host_waits_is_not_read_without_pause(server: AgentServer, host: Host):
    for _ in range(3):
        _deny(server)
    thread, _came = _waiting(host, _held(host.ask()))
    eventually(lambda: server.held)
    _one_port(server)
    thread.join(10)

    def go_back(session) -> None:
        session.execute(update(tables.State).values(generation=2))
        session.execute(update(tables.FirewallGroup).values(generation=2))

    server.store.writing(go_back)
    held = _held(host.ask())
    reads: list[str] = []
    event.listen(server.store.engine, "before_cursor_execute", lambda *sent: reads.append(sent[2]))

    assert host.ask(held, wait=0.5).generation == 2

    assert len([read for read in reads if "FROM hosts" in read]) < 15


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"wait":"x"}', b'{"policies":7}', b"\xff", b'{"version":99}'])
def test_a_malformed_request_is_400(host: Host, content: bytes):
    response = host.post(STATE_PATH, content)

    assert response.status_code == 400
    assert "error" in response.json()


@pytest.mark.parametrize("generation", [-1, 2**63, 10**30, 1.5, "1", None])
def test_a_generation_that_no_database_can_hold_is_400(host: Host, generation: object):
    content = json.dumps({"generation": generation}).encode()

    assert host.post(STATE_PATH, content).status_code == 400
    assert host.post(REPORT_PATH, content).status_code == 400


def test_a_report_about_more_ports_than_a_host_has_is_400(host: Host):
    assert host.report(0, {uuid(number): None for number in range(MAX_PORTS)}).status_code == 200
    assert host.report(0, {uuid(number): None for number in range(MAX_PORTS + 1)}).status_code == 400


def test_a_database_that_breaks_is_503_with_one_line_in_the_log(server: AgentServer, host: Host):
    server.change(lambda session: session.execute(text("DROP TABLE port_errors")))

    with capture_logs() as logs:
        response = host.report(0, {})

    assert response.status_code == 503
    assert "port_errors" not in response.text
    assert [log["event"] for log in logs] == ["agent_not_served"]


def test_a_host_that_leaves_in_the_middle_of_its_request_is_no_error(server: AgentServer, host: Host, caplog):
    address = (host._http.base_url.host, host._http.base_url.port)
    head = f"POST {STATE_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {host._http.headers['authorization']}\r\n"
    with capture_logs() as logs:
        with socket.create_connection(address, 10) as leaving:
            leaving.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            eventually(lambda: server.held)
        eventually(lambda: not server.held)

    assert logs == []
    assert caplog.records == []


def test_a_request_that_is_too_long_is_413(host: Host):
    assert host.post(REPORT_PATH, b" " * (MAX_BODY + 1)).status_code == 413


def test_other_methods_and_paths_are_not_served(host: Host):
    assert host._http.get(STATE_PATH).status_code == 405
    assert host._http.get("/v2.0/ports").status_code == 404


def test_a_report_makes_the_group_active(server: AgentServer, host: Host):
    generation = _one_port(server)
    status = lambda: server.read(lambda session: group_statuses(session, [uuid(7)], now())[uuid(7)])  # noqa: E731
    assert status() is Status.PENDING_CREATE

    assert host.report(generation, {uuid(1): "no device"}).status_code == 200
    assert status() is Status.ERROR
    assert host.report(generation, {uuid(1): None}).status_code == 200
    assert status() is Status.ACTIVE


def test_a_report_about_another_hosts_port_is_403_and_logged_without_the_token(server: AgentServer, host: Host):
    generation = server.change(lambda session: add_group(session, 7, ports=(add_port(session, 1, host="h2"),)))

    with capture_logs() as logs:
        response = host.report(generation, {uuid(1): None})

    assert response.status_code == 403
    refused = [log for log in logs if log["event"] == "report_refused"]
    assert refused[0]["host"] == "h1"
    assert uuid(1) in refused[0]["reason"]
    assert host._http.headers["authorization"].split()[1] not in repr(logs)


def test_a_poll_shows_in_the_list_of_hosts(server: AgentServer, host: Host):
    last = select(tables.Host.last_poll_at)
    assert server.read(lambda session: session.scalar(last)) is None

    host.ask()

    assert server.read(lambda session: session.scalar(last)) is not None


def test_a_rule_that_is_broken_in_the_database_is_503_and_nothing_is_sent(server: AgentServer, host: Host):
    _one_port(server)
    server.change(lambda session: session.execute(update(tables.FirewallRule).values(source_ip_address="x")))

    response = host.post(STATE_PATH, encode(StateRequest(wait=0)))

    assert response.status_code == 503
    assert uuid(3) in response.json()["error"]


def test_a_hundred_waiting_agents_are_woken_together(server: AgentServer, host: Host):
    _one_port(server)
    held = _held(host.ask())
    waiting = [_waiting(host, held) for _ in range(100)]
    eventually(lambda: len(server.held) == 100)
    generation = _deny(server)
    for thread, _ in waiting:
        thread.join(20)

    assert [came[0][1].generation for _, came in waiting] == [generation] * 100
