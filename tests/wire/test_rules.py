"""Firewall rules over HTTP, as OpenStack's clients send and read them."""

from typing import Any

import pytest

from wire.conftest import UNKNOWN, Api

RULE = "firewall_rule"
KEYS = {
    "id",
    "project_id",
    "tenant_id",
    "name",
    "description",
    "shared",
    "protocol",
    "source_address_group_id",
    "destination_address_group_id",
    "source_firewall_group_id",
    "destination_firewall_group_id",
    "icmp_type",
    "icmp_code",
    "ip_version",
    "source_ip_address",
    "destination_ip_address",
    "source_port",
    "destination_port",
    "action",
    "enabled",
    "firewall_policy_id",
    "revision_number",
    "created_at",
    "updated_at",
    "tags",
}


def test_an_empty_rule_takes_the_defaults(api: Api) -> None:
    rule = api.make(RULE)
    assert rule.keys() == KEYS
    assert rule | {"id": "", "created_at": "", "updated_at": ""} == {
        "id": "", "project_id": "portward", "tenant_id": "portward", "name": "", "description": "", "shared": False,
        "protocol": None, "ip_version": 4, "source_ip_address": None, "destination_ip_address": None,
        "source_port": None, "destination_port": None, "action": "deny", "enabled": True, "firewall_policy_id": None,
        "source_address_group_id": None, "destination_address_group_id": None, "source_firewall_group_id": None,
        "destination_firewall_group_id": None, "icmp_type": None, "icmp_code": None,
        "revision_number": 0, "created_at": "", "updated_at": "", "tags": [],
    }  # fmt: skip


def test_a_full_rule_comes_back_as_it_was_sent(api: Api) -> None:
    sent = {
        "name": "web", "description": "to the web", "shared": True, "protocol": "tcp", "ip_version": 4,
        "source_ip_address": "10.0.0.1/24", "destination_ip_address": "192.0.2.0/24", "source_port": "1024:65535",
        "destination_port": "80:443", "action": "reject", "enabled": False, "project_id": "p1",
    }  # fmt: skip
    rule = api.make(RULE, **sent)
    assert rule | sent == rule
    assert rule["tenant_id"] == "p1"
    assert api.show(RULE, rule["id"]) == rule
    assert api.index(RULE) == [rule]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"protocol": "tcp", "destination_port": 80}, {"destination_port": "80"}),
        ({"protocol": "tcp", "destination_port": "77:77"}, {"destination_port": "77"}),
        ({"protocol": "tcp", "destination_port": "0:1024"}, {"destination_port": "0:1024"}),
        ({"protocol": "sctp", "source_port": "80"}, {"protocol": "sctp", "source_port": "80"}),
        ({"protocol": "dccp", "source_port": "80"}, {"source_port": "80"}),
        ({"protocol": "TCP"}, {"protocol": "tcp"}),
        ({"protocol": 6}, {"protocol": "tcp"}),
        ({"protocol": "17"}, {"protocol": "udp"}),
        ({"protocol": "any"}, {"protocol": None}),
        ({"protocol": 47}, {"protocol": "47"}),
        ({"protocol": 0}, {"protocol": "0"}),
        ({"protocol": "255"}, {"protocol": "255"}),
        ({"protocol": "ipv6-icmp", "ip_version": 6}, {"protocol": "ipv6-icmp", "ip_version": 6}),
        ({"protocol": 58, "ip_version": 6}, {"protocol": "ipv6-icmp"}),
        ({"protocol": "icmp", "ip_version": 6}, {"protocol": "icmp"}),
        ({"action": "ALLOW"}, {"action": "allow"}),
        ({"ip_version": "6"}, {"ip_version": 6}),
        ({"ip_version": 6, "source_ip_address": "2001:DB8::1"}, {"source_ip_address": "2001:DB8::1"}),
        ({"source_ip_address": ""}, {"source_ip_address": None}),
        ({"enabled": "no", "shared": 1}, {"enabled": False, "shared": True}),
        ({"name": "x" * 255, "description": "y" * 255}, {"name": "x" * 255}),
        ({"source_firewall_group_id": None, "destination_firewall_group_id": None}, {"action": "deny"}),
    ],
)
def test_values_are_stored_in_their_one_form(api: Api, sent: dict[str, Any], stored: dict[str, Any]) -> None:
    rule = api.make(RULE, **sent)
    assert rule | stored == rule
    assert api.show(RULE, rule["id"]) == rule


BAD = "HTTPBadRequest"
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *(({"protocol": "tcp", "destination_port": port}, BAD, "Invalid input for destination_port. Reason: ") for port in
      ("90:80", "80-90", "65536", "-1", "a", "", "80:", ":80", "1:2:3", -1, 65536, True, 1.5, [], "8 0", "٣")),
    ({"protocol": "tcp", "destination_port": "0"}, BAD, "port 0 alone cannot be matched"),
    ({"protocol": "tcp", "destination_port": 0}, BAD, "port 0 alone cannot be matched"),
    ({"protocol": "tcp", "destination_port": "0:0"}, BAD, "port 0 alone cannot be matched"),
    ({"protocol": "tcp", "source_port": "65536"}, BAD, "Invalid input for source_port. Reason: Invalid port: 65536."),
    ({"protocol": "tcp", "source_port": "90:80"}, BAD,
     "First port in a port range must be lower than the second port."),
    ({"protocol": "tcp", "source_port": "80:"}, BAD, "Port range must be two integers separated by a colon."),
    ({"source_port": "80"}, "FirewallRuleWithPortWithoutProtocolInvalid",
     "Source/destination port requires a protocol."),
    ({"protocol": "icmp", "source_port": "80"}, "FirewallRuleInvalidICMPParameter",
     "Source, destination port are not allowed when protocol is set to ICMP."),
    ({"protocol": 47, "source_port": "80"}, "FirewallRuleInvalidICMPParameter", "not allowed"),
    ({"protocol": "ipv6-icmp"}, "FirewallIpAddressConflict",
     "Invalid input - IP addresses do not agree with IP Version."),
    *(({"protocol": value}, "InvalidInput", "is not supported. Only protocol names and their integer representation")
      for value in ("icmpv6", 256, -1, "", [], True, 6.0, "6.0")),
    ({"action": "drop"}, BAD, "Invalid input for action. Reason: drop is not in valid_values."),
    ({"action": "permit"}, BAD, "Invalid input for action. Reason: permit is not in valid_values."),
    ({"action": None}, "InvalidInput", "Input value None must be string type."),
    ({"ip_version": 5}, BAD, "Invalid input for ip_version."),
    *(({"ip_version": value}, "InvalidInput", "is not an integer.") for value in (None, "x", True, 4.5, [4])),
    ({"source_ip_address": "2001:db8::1"}, "FirewallIpAddressConflict", "do not agree"),
    ({"source_ip_address": "10.0.0.1", "destination_ip_address": "2001:db8::1"}, "FirewallIpAddressConflict", "agree"),
    *(({"source_ip_address": value}, BAD, "is neither a valid IP address, nor is it a valid IP subnet.") for value in
      ("10.0.0.0-10.0.0.9", "10.0.0.256", "10.0.0.0/33", "x", "10.0.0.0/255.0.0.0", "fe80::1%eth0", 4, ["10.0.0.1"])),
    ({"name": "x" * 256}, BAD, "exceeds maximum length of 255."),
    ({"description": "x" * 256}, BAD, "exceeds maximum length of 255."),
    ({"name": None}, BAD, "Invalid input for name. Reason: 'None' is not a valid string."),
    ({"name": 7}, BAD, "'7' is not a valid string."),
    ({"foo": 1}, BAD, "Unrecognized attribute(s) 'foo'"),
    ({"position": 1}, BAD, "Unrecognized attribute(s) 'position'"),
    ({"icmp_type": 256}, BAD, "Invalid input for icmp_type. Reason: 256 is not in the range 0 to 255."),
    *(({name: value}, BAD, f"Attribute '{name}' not allowed in POST") for name, value in
      (("id", UNKNOWN), ("firewall_policy_id", [UNKNOWN]), ("tags", []), ("revision_number", 1), ("created_at", "x"))),
    ({"shared": "maybe"}, "InvalidInput", "Invalid input for operation: 'maybe' cannot be converted to boolean."),
    ({"enabled": None}, "InvalidInput", "'None' cannot be converted to boolean."),
    ({"enabled": 2}, "InvalidInput", "cannot be converted to boolean."),
    ({"project_id": "a", "tenant_id": "b"}, BAD, "'project_id' and 'tenant_id' do not match"),
    ({"project_id": "x" * 37}, BAD, "exceeds maximum length of 36."),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "kind", "message"), REFUSED)
def test_a_bad_value_is_refused_in_neutrons_words(api: Api, sent: dict[str, Any], kind: str, message: str) -> None:
    answer = api.post(RULE, **sent)
    assert answer.status_code == 400
    error = answer.json()["NeutronError"]
    assert error["type"] == kind
    assert message in error["message"]
    assert error["detail"] == ""
    assert api.index(RULE) == []


@pytest.mark.parametrize(("sent", "kind", "message"), [item for item in REFUSED if item[2].startswith("Invalid input")])
def test_a_bad_value_is_refused_in_a_change_too(api: Api, sent: dict[str, Any], kind: str, message: str) -> None:
    rule = api.make(RULE)
    answer = api.put(RULE, rule["id"], **sent)
    assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (400, kind)
    assert message in answer.json()["NeutronError"]["message"]
    assert api.show(RULE, rule["id"]) == rule


@pytest.mark.parametrize("id_", [UNKNOWN, "nope", "%00", UNKNOWN.upper(), "x" * 2000])
def test_an_unknown_rule_is_not_found(api: Api, id_: str) -> None:
    for answer in (api.get(RULE, id_), api.put(RULE, id_, name="x"), api.delete(RULE, id_)):
        assert answer.status_code == 404
        assert answer.json()["NeutronError"]["type"] == "FirewallRuleNotFound"
    assert api.get(RULE, "nope").json()["NeutronError"]["message"] == "Firewall rule nope could not be found."


def test_a_change_that_changes_nothing_is_no_change(api: Api) -> None:
    rule = api.make(RULE, name="a", protocol="tcp", destination_port="80")
    assert api.change(RULE, rule["id"]) == rule
    assert api.change(RULE, rule["id"], name="a", destination_port=80, protocol="TCP") == rule
    assert api.change(RULE, rule["id"], name="b")["revision_number"] == 1


def test_ports_are_judged_together_with_the_protocol_that_stays(api: Api) -> None:
    rule = api.make(RULE)["id"]
    assert api.put(RULE, rule, destination_port="80").status_code == 400
    assert api.change(RULE, rule, destination_port="80", protocol="tcp")["destination_port"] == "80"
    for protocol in (None, "any", "icmp"):
        assert api.put(RULE, rule, protocol=protocol).status_code == 400
    assert api.change(RULE, rule, protocol=None, destination_port=None)["protocol"] is None


def test_addresses_are_judged_together_with_the_ip_version_that_stays(api: Api) -> None:
    rule = api.make(RULE)["id"]
    assert api.put(RULE, rule, source_ip_address="2001:db8::1").status_code == 400
    assert api.change(RULE, rule, source_ip_address="2001:db8::1", ip_version=6)["ip_version"] == 6
    assert api.put(RULE, rule, ip_version=4).status_code == 400


def test_terraform_clears_a_port_with_zero(api: Api) -> None:
    rule = api.make(RULE, protocol="udp", destination_port="53", source_port="1:2")["id"]
    changed = api.change(RULE, rule, destination_port="0", source_port=0, protocol="udp")
    assert (changed["destination_port"], changed["source_port"]) == (None, None)
    assert api.put(RULE, rule, destination_port="0:0").status_code == 400


@pytest.mark.parametrize(
    ("name", "shown"),
    [("id", "id"), ("project_id", "tenant_id"), ("tenant_id", "tenant_id"), ("tags", "tags"),
     ("firewall_policy_id", "firewall_policy_id"), ("revision_number", "revision_number")],
)  # fmt: skip
def test_what_is_read_only_cannot_be_changed(api: Api, name: str, shown: str) -> None:
    rule = api.make(RULE)
    answer = api.put(RULE, rule["id"], **{name: rule[name]})
    assert answer.status_code == 400
    assert answer.json()["NeutronError"]["message"] == f"Cannot update read-only attribute {shown}"


def test_a_rule_in_a_policy_cannot_be_deleted(api: Api) -> None:
    rule = api.make(RULE)["id"]
    policy = api.make("firewall_policy", firewall_rules=[rule])["id"]
    answer = api.delete(RULE, rule)
    assert answer.status_code == 409
    assert answer.json()["NeutronError"] == {
        "type": "FirewallRuleInUse", "message": f"Firewall rule {rule} is being used.", "detail": "",
    }  # fmt: skip
    api.change("firewall_policy", policy, firewall_rules=[])
    answer = api.delete(RULE, rule)
    assert (answer.status_code, answer.content, "content-type" in answer.headers) == (204, b"", False)
    assert api.get(RULE, rule).status_code == 404


def test_a_rule_tells_its_policies_in_every_answer(api: Api) -> None:
    rule = api.make(RULE)["id"]
    policies = sorted(api.make("firewall_policy", firewall_rules=[rule])["id"] for _ in range(2))
    assert api.show(RULE, rule)["firewall_policy_id"] == policies
    assert api.index(RULE)[0]["firewall_policy_id"] == policies
    assert api.change(RULE, rule, name="x")["firewall_policy_id"] == policies
