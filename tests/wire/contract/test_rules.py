"""Firewall rules: what they take, what they refuse, and who may touch them."""

from typing import Any

import pytest

from wire.conftest import UNKNOWN, Api
from wire.contract.cloud import GROUP, POLICY, RULE, denied, not_found, raw, refused, unchanged

BAD = "HTTPBadRequest"
KEYS = {
    "id", "project_id", "tenant_id", "name", "description", "shared", "protocol", "ip_version", "source_ip_address",
    "destination_ip_address", "source_port", "destination_port", "action", "enabled", "firewall_policy_id",
    "source_address_group_id", "destination_address_group_id", "source_firewall_group_id",
    "destination_firewall_group_id", "icmp_type", "icmp_code", "revision_number", "created_at", "updated_at", "tags",
}  # fmt: skip
CONFLICT = "Invalid input - IP addresses do not agree with IP Version."
PORT_ZERO = "port 0 alone cannot be matched; leave it out for all ports"


def test_a_rule_of_which_nothing_is_said_takes_the_defaults(member: Api) -> None:
    """Behaviour 1."""
    rule = member.make(RULE)
    assert rule.keys() == KEYS
    assert rule | {"id": "", "created_at": "", "updated_at": ""} == {
        "id": "", "project_id": "p1", "tenant_id": "p1", "name": "", "description": "", "shared": False,
        "protocol": None, "ip_version": 4, "source_ip_address": None, "destination_ip_address": None,
        "source_port": None, "destination_port": None, "action": "deny", "enabled": True, "firewall_policy_id": None,
        "source_address_group_id": None, "destination_address_group_id": None, "source_firewall_group_id": None,
        "destination_firewall_group_id": None, "icmp_type": None, "icmp_code": None,
        "revision_number": 0, "created_at": "", "updated_at": "", "tags": [],
    }  # fmt: skip


def test_a_full_rule_echoes_every_field(member: Api) -> None:
    """Behaviour 2."""
    sent = {
        "name": "web", "description": "to the web", "protocol": "tcp", "ip_version": 4, "enabled": False,
        "source_ip_address": "10.0.0.1/24", "destination_ip_address": "192.0.2.0/24", "source_port": "1024:65535",
        "destination_port": "80:443", "action": "reject", "shared": False,
    }  # fmt: skip
    rule = member.make(RULE, **sent)
    assert rule | sent == rule
    assert member.show(RULE, rule["id"]) == rule


TAKEN: list[tuple[int, dict[str, Any], dict[str, Any]]] = [
    (3, {"protocol": "tcp", "destination_port": 80}, {"destination_port": "80"}),
    (3, {"protocol": "udp", "source_port": 53}, {"source_port": "53"}),
    (3, {"protocol": "tcp", "source_port": "77:77"}, {"source_port": "77"}),
    (5, {"protocol": "tcp", "action": "allow", "source_port": "0:1024"}, {"source_port": "0:1024", "action": "allow"}),
    (6, {"protocol": "sctp", "destination_port": "80"}, {"protocol": "sctp", "destination_port": "80"}),
    (6, {"protocol": "dccp", "destination_port": "80"}, {"protocol": "dccp", "destination_port": "80"}),
    (7, {"protocol": "ipv6-icmp", "ip_version": 6}, {"protocol": "ipv6-icmp", "ip_version": 6}),
    (7, {"protocol": 58, "ip_version": 6}, {"protocol": "ipv6-icmp", "ip_version": 6}),
    (7, {"protocol": "TCP"}, {"protocol": "tcp"}),
    (7, {"protocol": 6}, {"protocol": "tcp"}),
    (7, {"protocol": "6"}, {"protocol": "tcp"}),
    (7, {"protocol": "any"}, {"protocol": None}),
    (7, {"protocol": "ANY"}, {"protocol": None}),
    (7, {"protocol": None}, {"protocol": None}),
    (7, {"protocol": 47}, {"protocol": "47"}),
    (7, {"protocol": "0"}, {"protocol": "0"}),
    (7, {"protocol": 255}, {"protocol": "255"}),
    (8, {"action": "ALLOW"}, {"action": "allow"}),
    (8, {"action": "Reject"}, {"action": "reject"}),
    (9, {"ip_version": "6"}, {"ip_version": 6}),
    (9, {"ip_version": "4"}, {"ip_version": 4}),
    (11, {"source_ip_address": "", "destination_ip_address": ""}, {"source_ip_address": None}),
    (11, {"ip_version": 6, "source_ip_address": "2001:DB8::1"}, {"source_ip_address": "2001:DB8::1"}),
    (12, {"name": "x" * 255, "description": "y" * 255}, {"name": "x" * 255, "description": "y" * 255}),
    (13, {"source_firewall_group_id": None, "destination_firewall_group_id": None}, {}),
]


@pytest.mark.parametrize(("_number", "sent", "stored"), TAKEN)
def test_a_value_is_stored_in_its_one_form(
    member: Api, _number: int, sent: dict[str, Any], stored: dict[str, Any]
) -> None:
    """Behaviours 3, 5, 6, 7, 8, 9, 11, 12, 13."""
    rule = member.make(RULE, **sent)
    assert rule | stored == rule
    assert member.show(RULE, rule["id"]) == rule


def _port(value: Any, reason: str) -> tuple[int, dict[str, Any], str, str]:
    sent = {"protocol": "tcp", "destination_port": value}
    return 4, sent, BAD, f"Invalid input for destination_port. Reason: {reason}"


def _protocol(value: Any) -> tuple[int, dict[str, Any], str, str]:
    reason = "is not supported. Only protocol names and their integer representation (0 to 255) are supported."
    return 7, {"protocol": value}, "InvalidInput", f"Invalid input for operation: IP protocol '{value}' {reason}"


def _address(value: str) -> tuple[int, dict[str, Any], str, str]:
    reason = f"'{value}' is neither a valid IP address, nor is it a valid IP subnet."
    return 11, {"source_ip_address": value}, BAD, f"Invalid input for source_ip_address. Reason: {reason}"


REFUSED: list[tuple[int, dict[str, Any], str, str]] = [
    _port("90:80", "First port in a port range must be lower than the second port."),
    _port("80-90", "Invalid port: 80-90."),
    _port("65536", "Invalid port: 65536."),
    _port("-1", "Invalid port: -1."),
    _port("a", "Invalid port: a."),
    _port("", "Invalid port: ."),
    _port("1:2:3", "Port range must be two integers separated by a colon."),
    (5, {"protocol": "tcp", "source_port": "0"}, BAD, f"Invalid input for source_port. Reason: {PORT_ZERO}."),
    (5, {"protocol": "tcp", "source_port": 0}, BAD, f"Invalid input for source_port. Reason: {PORT_ZERO}."),
    (5, {"protocol": "tcp", "source_port": "0:0"}, BAD, f"Invalid input for source_port. Reason: {PORT_ZERO}."),
    (6, {"source_port": "80"}, "FirewallRuleWithPortWithoutProtocolInvalid",
     "Source/destination port requires a protocol."),
    (6, {"source_port": "80", "protocol": "any"}, "FirewallRuleWithPortWithoutProtocolInvalid",
     "Source/destination port requires a protocol."),
    (6, {"protocol": "icmp", "source_port": "80"}, "FirewallRuleInvalidICMPParameter",
     "Source, destination port are not allowed when protocol is set to ICMP."),
    (7, {"protocol": "ipv6-icmp", "ip_version": 4}, "FirewallIpAddressConflict", CONFLICT),
    (7, {"protocol": 58}, "FirewallIpAddressConflict", CONFLICT),
    _protocol("icmpv6"), _protocol(256), _protocol(-1),
    (8, {"action": "drop"}, BAD, "Invalid input for action. Reason: drop is not in valid_values."),
    (8, {"action": None}, "InvalidInput", "Invalid input for operation: Input value None must be string type."),
    (9, {"ip_version": 5}, BAD, "Invalid input for ip_version. Reason: 5 is not in valid_values."),
    (9, {"ip_version": None}, "InvalidInput", "Invalid input for operation: 'None' is not an integer."),
    (9, {"ip_version": "x"}, "InvalidInput", "Invalid input for operation: 'x' is not an integer."),
    (10, {"source_ip_address": "2001:db8::1"}, "FirewallIpAddressConflict", CONFLICT),
    (10, {"ip_version": 6, "source_ip_address": "10.0.0.1"}, "FirewallIpAddressConflict", CONFLICT),
    (10, {"source_ip_address": "10.0.0.1", "destination_ip_address": "2001:db8::1"}, "FirewallIpAddressConflict",
     CONFLICT),
    _address("10.0.0.256"), _address("10.0.0.0/33"), _address("10.0.0.0-10.0.0.9"), _address("example.org"),
    (12, {"name": "x" * 256}, BAD, f"Invalid input for name. Reason: '{'x' * 256}' exceeds maximum length of 255."),
    (12, {"description": "x" * 256}, BAD,
     f"Invalid input for description. Reason: '{'x' * 256}' exceeds maximum length of 255."),
    (12, {"name": None}, BAD, "Invalid input for name. Reason: 'None' is not a valid string."),
    (13, {"foo": 1}, BAD, "Unrecognized attribute(s) 'foo'"),
    (13, {"position": 1}, BAD, "Unrecognized attribute(s) 'position'"),
    (13, {"icmp_type": 256}, BAD, "Invalid input for icmp_type. Reason: 256 is not in the range 0 to 255."),
    (13, {"id": UNKNOWN}, BAD, "Attribute 'id' not allowed in POST"),
    (13, {"firewall_policy_id": None}, BAD, "Attribute 'firewall_policy_id' not allowed in POST"),
    (13, {"tags": []}, BAD, "Attribute 'tags' not allowed in POST"),
    (15, {"shared": "maybe"}, "InvalidInput",
     "Invalid input for operation: 'maybe' cannot be converted to boolean."),
    (15, {"enabled": None}, "InvalidInput", "Invalid input for operation: 'None' cannot be converted to boolean."),
]  # fmt: skip


@pytest.mark.parametrize(("_number", "sent", "kind", "message"), REFUSED)
def test_a_value_that_makes_no_rule_is_refused(
    admin: Api, _number: int, sent: dict[str, Any], kind: str, message: str
) -> None:
    """Behaviours 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15."""
    with unchanged(admin):
        refused(admin.post(RULE, **sent), 400, kind, message)


@pytest.mark.parametrize(("_number", "sent", "kind", "message"), [case for case in REFUSED if case[0] != 13])
def test_a_change_to_such_a_value_is_refused_too(
    admin: Api, _number: int, sent: dict[str, Any], kind: str, message: str
) -> None:
    """Behaviours 4, 5, 6, 7, 8, 9, 10, 11, 12, 15."""
    rule = admin.make(RULE)["id"]
    if PORT_ZERO in message and sent["source_port"] != "0:0":
        assert admin.change(RULE, rule, **sent)["source_port"] is None
    else:
        with unchanged(admin):
            refused(admin.put(RULE, rule, **sent), 400, kind, message)


def test_port_zero_in_a_change_clears_the_port(member: Api) -> None:
    """Behaviour 5."""
    rule = member.make(RULE, protocol="tcp", destination_port="80", source_port="0:1024")["id"]
    changed = member.change(RULE, rule, destination_port="0")
    assert (changed["destination_port"], changed["source_port"]) == (None, "0:1024")
    assert member.change(RULE, rule, source_port=0)["source_port"] is None


def test_a_rule_belongs_to_the_callers_project_unless_an_admin_says_otherwise(admin: Api, member: Api) -> None:
    """Behaviour 14."""
    said = "other than the authenticated project in request is not allowed for the current user."
    with unchanged(admin):
        refused(member.post(RULE, project_id="p2"), 400, BAD, f"Specifying 'project_id' {said}")
        answer = member.post(RULE, tenant_id="p2")
        refused(answer, 400, BAD)
        refused(
            admin.post(RULE, project_id="p1", tenant_id="p2"), 400, BAD, "'project_id' and 'tenant_id' do not match"
        )
    assert member.make(RULE, project_id="p1", tenant_id="p1")["tenant_id"] == "p1"
    for named in ({"project_id": "p2"}, {"tenant_id": "p2"}):
        rule = admin.make(RULE, **named)
        assert (rule["project_id"], rule["tenant_id"]) == ("p2", "p2")


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_only_an_admin_shares_what_is_new(admin: Api, member: Api, kind: str) -> None:
    """Behaviours 15, 31, 65."""
    with unchanged(admin):
        denied(member.post(kind, shared=True), f"create_{kind}", f"create_{kind}:shared")
    assert member.make(kind, shared=False)["shared"] is False
    assert admin.make(kind, shared=True)["shared"] is True


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_a_reader_makes_nothing(admin: Api, reader: Api, kind: str) -> None:
    """Behaviour 16."""
    with unchanged(admin):
        denied(reader.post(kind), f"create_{kind}")


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b"", BAD, "Resource body required"),
        (b"{}", BAD, "Resource body required"),
        (b"[]", BAD, "Resource body required"),
        (b"null", BAD, "Resource body required"),
        (b'{"KIND": [{}]}', BAD, "Object 'KIND' contains invalid data"),
        (b'{"KIND": "x"}', BAD, "Object 'KIND' contains invalid data"),
        (b'{"kind": {}}', BAD, "Unable to find 'KIND' in request body"),
        (b'{"KIND": {}', "MalformedRequestBody", "Malformed request body: Cannot understand JSON."),
    ],
)
def test_a_body_that_is_no_object_in_its_envelope_is_refused(
    admin: Api, member: Api, kind: str, body: bytes, error: str, message: str
) -> None:
    """Behaviour 16."""
    with unchanged(admin):
        answer = raw(member, "POST", kind, body.replace(b"KIND", kind.encode()))
        refused(answer, 400, error, message.replace("KIND", kind))


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
@pytest.mark.parametrize("id_", [UNKNOWN, "nope"])
def test_what_is_unknown_is_not_found(member: Api, kind: str, id_: str) -> None:
    """Behaviour 17."""
    for answer in (member.get(kind, id_), member.put(kind, id_, name="x"), member.delete(kind, id_)):
        not_found(answer, kind, id_)


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_what_another_project_does_not_share_is_not_found(admin: Api, member: Api, stranger: Api, kind: str) -> None:
    """Behaviours 17, 65."""
    id_ = member.make(kind)["id"]
    with unchanged(admin):
        for answer in (stranger.get(kind, id_), stranger.put(kind, id_, name="x"), stranger.delete(kind, id_)):
            not_found(answer, kind, id_)
    assert stranger.index(kind) == []


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_what_another_project_shares_is_seen_and_not_touched(admin: Api, stranger: Api, kind: str) -> None:
    """Behaviours 18, 38, 65."""
    shared = admin.make(kind, shared=True, project_id="p1")
    with unchanged(admin):
        assert stranger.show(kind, shared["id"]) == shared
        assert stranger.index(kind) == [shared]
        denied(stranger.put(kind, shared["id"], name="x"), f"update_{kind}")
        denied(stranger.delete(kind, shared["id"]), f"delete_{kind}")


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_a_reader_sees_and_does_not_touch(admin: Api, member: Api, reader: Api, kind: str) -> None:
    """Behaviours 19, 65."""
    made = member.make(kind)
    with unchanged(admin):
        assert reader.show(kind, made["id"]) == made
        denied(reader.put(kind, made["id"], name="x"), f"update_{kind}")
        denied(reader.delete(kind, made["id"]), f"delete_{kind}")


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_a_change_of_nothing_changes_nothing(admin: Api, member: Api, kind: str) -> None:
    """Behaviour 20."""
    made = member.make(kind, name="a")
    with unchanged(admin):
        assert member.change(kind, made["id"]) == made
        assert member.change(kind, made["id"], name="a") == made


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
def test_a_change_needs_a_body_and_its_method(admin: Api, member: Api, kind: str) -> None:
    """Behaviour 20."""
    id_ = member.make(kind)["id"]
    with unchanged(admin):
        refused(raw(member, "PUT", kind, b"", id_), 400, "BadRequest", "Bad body request: Invalid format: b''.")
        refused(raw(member, "PUT", kind, b"{}", id_), 400, BAD)
        refused(raw(member, "PUT", kind, b"[]", id_), 400, BAD)
        refused(raw(member, "PATCH", kind, b'{"KIND": {}}', id_), 405, "HTTPMethodNotAllowed")


def test_ports_and_protocol_are_judged_with_what_stays(admin: Api, member: Api) -> None:
    """Behaviour 21."""
    rule = member.make(RULE)["id"]
    without = "FirewallRuleWithPortWithoutProtocolInvalid", "Source/destination port requires a protocol."
    with unchanged(admin):
        refused(member.put(RULE, rule, destination_port="80"), 400, *without)
    changed = member.change(RULE, rule, protocol="tcp", destination_port="80")
    assert (changed["protocol"], changed["destination_port"]) == ("tcp", "80")
    with unchanged(admin):
        refused(member.put(RULE, rule, protocol=None), 400, *without)
        refused(member.put(RULE, rule, protocol="any"), 400, *without)
        refused(member.put(RULE, rule, protocol="icmp"), 400, "FirewallRuleInvalidICMPParameter")
    changed = member.change(RULE, rule, protocol="icmp", destination_port=None)
    assert (changed["protocol"], changed["destination_port"]) == ("icmp", None)


def test_addresses_and_ip_version_are_judged_with_what_stays(admin: Api, member: Api) -> None:
    """Behaviour 22."""
    rule = member.make(RULE)["id"]
    with unchanged(admin):
        refused(member.put(RULE, rule, source_ip_address="2001:db8::1"), 400, "FirewallIpAddressConflict", CONFLICT)
    changed = member.change(RULE, rule, source_ip_address="2001:db8::1", ip_version=6)
    assert (changed["source_ip_address"], changed["ip_version"]) == ("2001:db8::1", 6)
    with unchanged(admin):
        refused(member.put(RULE, rule, ip_version=4), 400, "FirewallIpAddressConflict", CONFLICT)
    assert member.change(RULE, rule, ip_version=4, source_ip_address=None)["ip_version"] == 4
    icmp = member.make(RULE, protocol="ipv6-icmp", ip_version=6)["id"]
    with unchanged(admin):
        refused(member.put(RULE, icmp, ip_version=4), 400, "FirewallIpAddressConflict", CONFLICT)


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
@pytest.mark.parametrize(
    ("name", "shown"),
    [("id", "id"), ("project_id", "tenant_id"), ("tenant_id", "tenant_id"), ("revision_number", "revision_number"),
     ("created_at", "created_at")],
)  # fmt: skip
def test_what_is_read_only_cannot_be_changed_to_what_it_is(admin: Api, kind: str, name: str, shown: str) -> None:
    """Behaviour 23."""
    made = admin.make(kind)
    with unchanged(admin):
        answer = admin.put(kind, made["id"], **{name: made[name]})
        refused(answer, 400, BAD, f"Cannot update read-only attribute {shown}")


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
@pytest.mark.parametrize("shared", [True, False])
def test_a_member_does_not_say_whether_something_is_shared(admin: Api, member: Api, kind: str, shared: bool) -> None:
    """Behaviours 23, 31, 65."""
    id_ = member.make(kind)["id"]
    with unchanged(admin):
        denied(member.put(kind, id_, shared=shared), f"update_{kind}", f"update_{kind}:shared")


def test_a_rule_in_a_policy_cannot_be_deleted(admin: Api, member: Api) -> None:
    """Behaviour 24."""
    rule = member.make(RULE)["id"]
    policy = member.make(POLICY, firewall_rules=[rule])["id"]
    with unchanged(admin):
        for who in (member, admin):
            refused(who.delete(RULE, rule), 409, "FirewallRuleInUse", f"Firewall rule {rule} is being used.")
    member.change(POLICY, policy, firewall_rules=[])
    answer = member.delete(RULE, rule)
    assert (answer.status_code, answer.content, "content-type" in answer.headers) == (204, b"", False)
    not_found(member.get(RULE, rule), RULE, rule)


def test_a_rule_tells_its_policies_in_every_answer(member: Api) -> None:
    """Behaviour 25."""
    rule = member.make(RULE)["id"]
    assert member.show(RULE, rule)["firewall_policy_id"] is None
    policies = sorted(member.make(POLICY, firewall_rules=[rule])["id"] for _ in range(2))
    for told in (member.show(RULE, rule), *member.index(RULE), member.change(RULE, rule, name="x")):
        assert sorted(told["firewall_policy_id"]) == policies


@pytest.mark.parametrize("by_admin", [False, True])
def test_a_rule_tells_only_of_policies_that_its_reader_may_see(
    admin: Api, member: Api, stranger: Api, by_admin: bool
) -> None:
    """Behaviour 25."""
    rule = admin.make(RULE, shared=True, project_id="p1")["id"]
    theirs = stranger.make(POLICY, firewall_rules=[rule])["id"]
    ours = member.make(POLICY, firewall_rules=[rule])["id"]
    shown = (admin if by_admin else member).show(RULE, rule)["firewall_policy_id"]
    assert sorted(shown) == (sorted([ours, theirs]) if by_admin else [ours])


def test_a_rule_that_others_use_stays_shared(admin: Api, member: Api, stranger: Api) -> None:
    """Behaviour 26."""
    used_by_others = admin.make(RULE, shared=True, project_id="p1")["id"]
    stranger.make(POLICY, firewall_rules=[used_by_others])
    in_a_shared_policy = admin.make(RULE, shared=True, project_id="p1")["id"]
    admin.make(POLICY, shared=True, project_id="p1", firewall_rules=[in_a_shared_policy])
    with unchanged(admin):
        for rule in (used_by_others, in_a_shared_policy):
            refused(admin.put(RULE, rule, shared=False), 409, "FirewallRuleInUse")
    own = admin.make(RULE, shared=True, project_id="p1")["id"]
    member.make(POLICY, firewall_rules=[own])
    assert admin.change(RULE, own, shared=False)["shared"] is False
