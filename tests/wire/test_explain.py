"""Asking why over HTTP."""

from typing import Any

import pytest

from wire.conftest import UNKNOWN, Api

PACKET = {"source": "10.0.0.1", "destination": "10.0.1.1", "protocol": "tcp", "source_port": 1, "destination_port": 80}


def ask(api: Api, **explain: Any) -> Any:
    return api.request("POST", "/v2.0/fwaas/explain", json={"explain": explain})


def test_the_deciding_rule_is_named(api: Api) -> None:
    denied = api.make("firewall_rule", protocol="tcp", destination_port=22)["id"]
    allowed = api.make("firewall_rule", protocol="tcp", destination_port=80, action="allow")["id"]
    policy = api.make("firewall_policy", firewall_rules=[denied, allowed])["id"]
    port = api.router_port()["id"]
    api.make("firewall_group", ports=[port], ingress_firewall_policy_id=policy)
    answer = ask(api, port_id=port, direction="ingress", packet=PACKET)
    assert answer.status_code == 200
    explanation = answer.json()["explanation"]
    assert (explanation["verdict"], explanation["rule_id"]) == ("allow", allowed)
    assert [rule["rule_id"] for rule in explanation["passed_over"]] == [denied]
    icmp = {"source": "2001:db8::1", "destination": "2001:db8::2", "protocol": "icmp", "icmp_type": 128, "icmp_code": 0}
    assert ask(api, port_id=port, direction="egress", packet=icmp).json()["explanation"]["verdict"] == "deny"


@pytest.mark.parametrize(
    "change",
    [
        {"direction": "sideways"},
        {"direction": None},
        {"packet": None},
        {"packet": []},
        {"packet": PACKET | {"foo": 1}},
        {"packet": PACKET | {"source": "x"}},
        {"packet": PACKET | {"source": "2001:db8::1"}},
        {"packet": PACKET | {"source": "fe80::1%lo"}},
        {"packet": PACKET | {"protocol": None}},
        {"packet": PACKET | {"protocol": "icmp"}},
        {"packet": PACKET | {"protocol": "256"}},
        {"packet": PACKET | {"source_port": 65536}},
        {"packet": PACKET | {"source_port": "x"}},
        {"packet": PACKET | {"icmp_type": 8}},
        {"packet": PACKET | {"icmp_code": 0}},
        {"packet": {"source": "10.0.0.1", "destination": "10.0.1.1", "protocol": "icmp", "icmp_type": 256}},
        {"foo": 1},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(api: Api, change: dict[str, Any]) -> None:
    port = api.router_port()["id"]
    question = {"port_id": port, "direction": "ingress", "packet": PACKET} | change
    assert ask(api, **question).status_code == 400


def test_nothing_else_stands_beside_the_question(api: Api) -> None:
    question = {"port_id": api.router_port()["id"], "direction": "ingress", "packet": PACKET}
    assert api.request("POST", "/v2.0/fwaas/explain", json={"explain": question}).status_code == 200
    assert api.request("POST", "/v2.0/fwaas/explain", json={"explain": question, "foo": 1}).status_code == 400


def test_an_unknown_port_is_not_found(api: Api) -> None:
    for port in (UNKNOWN, "x", None, 7):
        answer = ask(api, port_id=port, direction="ingress", packet=PACKET)
        assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (404, "PortNotFound")
