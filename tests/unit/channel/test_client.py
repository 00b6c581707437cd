"""The agent's side of the channel."""

from ipaddress import ip_network
from typing import Any

import httpx2
import msgspec
import pytest

from portward.channel.client import Client, Refused, Unreachable, Unusable
from portward.channel.messages import SetChange, StateAnswer, fingerprint
from portward.model import Action, AddressSet, HostState, PortReport, Report
from unit.agent.values import covered, policy, state, uuid
from unit.channel.server import Server

TOKEN = "secret-token"


def _pair(server: Server) -> Client:
    return Client("http://portward.test", TOKEN, transport=server.transport())


def test_the_first_poll_asks_for_everything_and_gets_it():
    server = Server(state(5, covered(1, 7), policies=(policy(7),)))

    assert _pair(server).poll() == server.state
    assert (server.asked[0].generation, server.asked[0].digest, server.asked[0].policies) == (0, "", {})
    assert server.tokens == [f"Bearer {TOKEN}"]


def test_a_poll_without_news_returns_none():
    server = Server(state(5, covered(1, 7), policies=(policy(7),)))
    client = _pair(server)
    client.poll()

    assert client.poll() is None
    assert bytes(server.sent[1].index) == b"null"


def test_only_the_policy_that_changed_crosses_the_wire():
    server = Server(state(5, covered(1, 7), covered(2, 8), policies=(policy(7), policy(8))))
    client = _pair(server)
    client.poll()
    server.state = state(6, covered(1, 7), covered(2, 8), policies=(policy(7), policy(8, version=6)))

    assert client.poll() == server.state
    assert server.asked[1].policies == {uuid(7): 1, uuid(8): 1}
    assert len(server.sent[1].bodies) == 1


def test_what_is_not_in_the_index_is_gone():
    server = Server(state(5, covered(1, 7), covered(2, 8), policies=(policy(7), policy(8))))
    client = _pair(server)
    client.poll()
    server.state = state(6, covered(2, 8), policies=(policy(8),))

    assert client.poll() == server.state
    client.poll()
    assert server.asked[2].policies == {uuid(8): 1}


def test_a_new_generation_of_the_same_state_is_returned_to_be_reported():
    server = Server(state(5, covered(1, 7), policies=(policy(7),)))
    client = _pair(server)
    client.poll()
    server.state = state(9, covered(1, 7), policies=(policy(7),))

    assert client.poll() == server.state
    assert client.poll() is None


def test_a_server_that_went_back_is_followed():
    server = Server(state(50, covered(1, 7), policies=(policy(7),)))
    client = _pair(server)
    client.poll()
    server.state = state(20, covered(1, 7), policies=(policy(7),))

    assert client.poll() == server.state
    client.poll()
    assert server.asked[2].generation == 20


def test_the_wait_that_was_asked_for_is_sent():
    server = Server(state(5))

    _pair(server).poll(wait=0)

    assert server.asked[0].wait == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda answer: msgspec.structs.replace(answer, bodies=()),
        lambda answer: msgspec.structs.replace(answer, digest="0" * 64),
        lambda answer: msgspec.structs.replace(answer, index=msgspec.Raw(b'{"ports":7}')),
        lambda answer: msgspec.structs.replace(answer, index=msgspec.Raw(b"null")),
        lambda answer: msgspec.structs.replace(answer, index=msgspec.Raw(b'{"ports":[],"policies":{}}')),
        lambda answer: msgspec.structs.replace(answer, version=3),
    ],
)
def test_an_answer_that_is_not_whole_is_not_used_and_everything_is_asked_for_anew(damage):
    server = Server(state(5, covered(1, 7), policies=(policy(7),)))
    client = _pair(server)
    client.poll()
    server.state = state(6, covered(1, 7), policies=(policy(7, version=6, action=Action.DENY),))
    server.damage = damage

    with pytest.raises(Unusable):
        client.poll()
    server.damage = lambda answer: answer
    assert client.poll() == server.state
    assert (server.asked[2].generation, server.asked[2].digest, server.asked[2].policies) == (0, "", {})


def _with_set(generation: int, version: int, *members: str) -> HostState:
    """A state with one address set."""
    held = AddressSet(id=uuid(9), version=version, members=tuple(ip_network(member) for member in members))
    return HostState(generation=generation, sets=(held,))


def test_an_address_set_is_sent_once_and_its_version_is_told():
    server = Server(_with_set(5, 3, "10.0.0.0/8", "2001:db8::/32"))
    client = _pair(server)

    assert client.poll() == server.state
    assert client.poll() is None
    assert [request.sets for request in server.asked] == [{}, {uuid(9): 3}]


def _changed(answer: StateAnswer, **values: Any) -> StateAnswer:
    """The answer with another change of its one set."""
    change = SetChange(**{"id": uuid(9), "version": 6, "since": 5} | values)
    return msgspec.structs.replace(answer, sets=(change,))


@pytest.mark.parametrize(
    "values",
    [
        {"added": ("10.0.0.2/32",), "removed": ("10.0.0.1/32",)},
        {"added": ("10.0.0.2/32",), "removed": ("10.0.0.1/32", "10.0.0.8/32")},
        {"added": ("10.0.0.2/32", "10.0.0.3/32"), "removed": ("10.0.0.1/32",)},
    ],
)
def test_a_set_is_put_together_from_what_came_and_went_named_needlessly_or_not(values: dict[str, Any]):
    server = Server(_with_set(5, 5, "10.0.0.1/32", "10.0.0.3/32"))
    client = _pair(server)
    client.poll()
    server.state = _with_set(6, 6, "10.0.0.3/32", "10.0.0.2/32")
    server.damage = lambda answer: _changed(answer, **values)

    assert client.poll() == server.state


@pytest.mark.parametrize(
    "values",
    [
        {"since": 4, "added": ("10.0.0.2/32",)},  # of a version that is not held
        {"version": 7, "added": ("10.0.0.2/32",)},  # not the version that the index names
        {"id": uuid(8), "since": 0, "added": ("10.0.0.1/32", "10.0.0.2/32")},  # another set
        {"added": ("10.0.0.3/32",)},  # another member
        {"added": ()},  # one is lacking
        {"added": ("10.0.0.2/24",)},  # no prefix
        {"added": ("ten",)},
    ],
)
def test_a_set_that_cannot_be_put_together_is_not_used_and_everything_is_asked_for_anew(values: dict[str, Any]):
    server = Server(_with_set(5, 5, "10.0.0.1/32"))
    client = _pair(server)
    client.poll()
    server.state = _with_set(6, 6, "10.0.0.1/32", "10.0.0.2/32")
    server.damage = lambda answer: _changed(answer, **values)

    with pytest.raises(Unusable):
        client.poll()
    server.damage = lambda answer: answer
    assert client.poll() == server.state
    assert (server.asked[2].generation, server.asked[2].digest, server.asked[2].sets) == (0, "", {})


def test_a_set_that_no_index_names_is_forgotten():
    server = Server(_with_set(5, 5, "10.0.0.1/32"))
    client = _pair(server)
    client.poll()
    server.state = HostState(generation=6)

    assert client.poll() == server.state
    client.poll()
    assert server.asked[2].sets == {}


def test_a_fingerprint_is_of_the_members_however_they_came():
    whole = fingerprint(["10.0.0.1/32", "10.0.0.2/32"])
    assert fingerprint(["10.0.0.2/32"], fingerprint(["10.0.0.1/32"])) == whole
    assert fingerprint(["10.0.0.2/32"], fingerprint(["10.0.0.3/32", "10.0.0.1/32"]), less=["10.0.0.3/32"]) == whole
    assert fingerprint([], whole, less=["10.0.0.1/32", "10.0.0.2/32"]) == fingerprint([]) == 0
    assert whole not in (fingerprint(["10.0.0.1/32", "10.0.0.3/32"]), fingerprint(["10.0.0.1/32"]))


def test_a_version_that_a_database_gave_out_twice_does_not_leave_an_old_policy_in_force():
    server = Server(state(5, covered(1, 7), policies=(policy(7, version=5, action=Action.ALLOW),)))
    client = _pair(server)
    client.poll()
    server.state = state(6, covered(1, 7), policies=(policy(7, version=5, action=Action.DENY),))

    with pytest.raises(Unusable):
        client.poll()
    assert client.poll() == server.state


def test_what_is_held_survives_a_lost_connection():
    server = Server(state(5, covered(1, 7), policies=(policy(7),)))
    client = _pair(server)
    client.poll()

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused", request=request)

    server.fault = refuse
    with pytest.raises(Unreachable, match="connection refused"):
        client.poll()
    server.fault = lambda _: None

    assert client.poll() is None
    assert server.asked[1].generation == 5


@pytest.mark.parametrize(
    ("status", "error", "advice"),
    [
        (401, Refused, "portward host add"),
        (403, Refused, "403"),
        (400, Refused, "400"),
        (500, Unreachable, "500"),
        (503, Unreachable, "503"),
        (302, Unreachable, "302"),
    ],
)
def test_a_status_other_than_200_says_what_to_do(status: int, error: type[Exception], advice: str):
    server = Server(state(5))
    server.fault = lambda _: httpx2.Response(status, text="words")
    client = _pair(server)

    with pytest.raises(error, match=advice):
        client.poll()
    with pytest.raises(error, match=advice):
        client.report(Report(generation=1))


def test_an_answer_that_is_no_message_is_unusable():
    server = Server(state(5))
    server.fault = lambda _: httpx2.Response(200, text="<html>")

    with pytest.raises(Unusable):
        _pair(server).poll()


@pytest.mark.parametrize("token", ["", "two\nlines", "é"])
def test_a_token_that_is_none_is_refused_without_showing_it(token: str):
    client = Client("http://portward.test", token, transport=Server(state(5)).transport())

    with pytest.raises(Refused) as caught:
        client.poll()
    assert not token or token not in str(caught.value)


def test_a_report_arrives_as_it_was_given():
    server = Server(state(5))
    ports = (PortReport(port_id=uuid(1)), PortReport(port_id=uuid(2), error="no device"))

    _pair(server).report(Report(generation=5, ports=ports))

    assert (server.reports[0].generation, server.reports[0].ports) == (5, ports)


def test_an_address_that_is_none_is_unreachable():
    with pytest.raises(Unreachable, match="agent"):
        Client("nonsense", TOKEN).poll()


def test_an_answer_may_have_keys_that_a_newer_server_knows():
    server = Server(state(5))
    client = _pair(server)
    client.poll()
    server.fault = lambda _: httpx2.Response(
        200, content=b'{"generation":5,"digest":"%s","news":1}' % server.sent[0].digest.encode()
    )

    assert client.poll() is None
