"""Who may what: the default rules, and what an operator's file makes of them."""

from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from portward.api.authorisation import Authorisation, Authority
from portward.api.errors import PolicyNotAuthorized
from portward.api.identity import Caller
from portward.api.rbac import DEFAULTS
from portward.api.resources import ALL
from portward.config import ConfigurationError
from portward.service.context import Context
from portward.store.tables import FirewallRule, Port

ADMIN = frozenset({"admin", "member", "reader"})
MEMBER = frozenset({"member", "reader"})
READER = frozenset({"reader"})
NOBODY: frozenset[str] = frozenset()


def authority(roles: frozenset[str], policy_file: Path = Path("/nonexistent/policy.yaml")) -> Authority:
    context = Context(project_id="p1", is_admin=False, roles=roles, request_id="", now=datetime(2026, 1, 1))
    return Authorisation(policy_file).of(context)


def policy(directory: Path, text: str) -> Path:
    path = directory / "policy.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("rule", "owner", "shared", "allowed"),
    [
        ("create_firewall_rule", "p1", False, {ADMIN, MEMBER}),
        ("create_firewall_rule", "p2", False, {ADMIN}),
        ("create_firewall_rule:shared", "p1", True, {ADMIN}),
        ("get_firewall_group", "p1", False, {ADMIN, MEMBER, READER}),
        ("get_firewall_group", "p2", False, {ADMIN}),
        ("get_firewall_group", "p2", True, {ADMIN, MEMBER, READER}),
        ("update_firewall_policy", "p1", False, {ADMIN, MEMBER}),
        ("update_firewall_policy", "p2", True, {ADMIN}),
        ("update_firewall_policy:shared", "p1", False, {ADMIN}),
        ("delete_firewall_rule", "p2", True, {ADMIN}),
        ("insert_rule", "p1", False, {ADMIN, MEMBER}),
        ("remove_rule", "p2", True, {ADMIN}),
        ("get_firewall_group_realisation", "p1", False, {ADMIN, MEMBER, READER}),
        ("get_firewall_group_realisation:host", "p1", False, {ADMIN}),
        ("create_port", "p1", False, {ADMIN}),
        ("get_port", "p1", False, {ADMIN, MEMBER, READER}),
        ("get_port", "p2", False, {ADMIN}),
        ("get_port:binding:host_id", "p1", False, {ADMIN}),
        ("explain", "p1", False, {ADMIN, MEMBER, READER}),
        ("get_hosts", "p1", False, {ADMIN}),
    ],
)
def test_the_default_rules_are_neutrons(rule: str, owner: str, shared: bool, allowed: set[frozenset[str]]) -> None:
    roles = (ADMIN, MEMBER, READER, NOBODY)
    assert {role for role in roles if authority(role).allows(rule, owner, shared=shared)} == allowed


def test_who_is_an_admin_is_a_rule(tmp_path: Path) -> None:
    admin, boss = (Caller(project_id="p1", roles=frozenset({role})) for role in ("admin", "boss"))
    assert Authorisation(tmp_path / "none").is_admin(admin)
    overridden = Authorisation(policy(tmp_path, '"context_is_admin": "role:boss"'))
    assert (overridden.is_admin(admin), overridden.is_admin(boss)) == (False, True)


def test_every_call_and_every_guard_has_its_rule() -> None:
    known = {default.name for default in DEFAULTS}
    assert len(known) == len(DEFAULTS)
    for schema in (resource.schema for resource in ALL):
        assert {f"{call}_{schema.singular}" for call in ("create", "get", "update", "delete")} <= known
        for attribute in schema.attributes:
            assert {f"{call}_{schema.singular}:{attribute.name}" for call in attribute.guards} <= known


def test_a_refusal_names_the_rules_as_neutron_does() -> None:
    reader = authority(READER)
    with pytest.raises(PolicyNotAuthorized, match=r"^rule:create_firewall_rule is disallowed by policy$"):
        reader.require(["create_firewall_rule"], "p1")
    with pytest.raises(
        PolicyNotAuthorized,
        match=r"^\(rule:create_firewall_rule and rule:create_firewall_rule:shared\) is disallowed by policy$",
    ):
        authority(MEMBER).require(["create_firewall_rule", "create_firewall_rule:shared"], "p1")


def test_an_operators_rule_takes_the_place_of_the_default(tmp_path: Path) -> None:
    file = policy(tmp_path, '"create_firewall_rule": "role:operator"\n"get_port:binding:host_id": "@"\n')
    assert not authority(MEMBER, file).allows("create_firewall_rule", "p1")
    assert authority(frozenset({"operator"}), file).allows("create_firewall_rule", "p2")
    assert authority(READER, file).allows("get_port:binding:host_id", "p1")
    assert authority(MEMBER, file).allows("update_firewall_rule", "p1")


def test_every_default_can_be_written_into_the_file(tmp_path: Path) -> None:
    lines = [f'"{default.name}": "{default.check}"\n' for default in DEFAULTS]
    Authorisation(policy(tmp_path, "".join(lines)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('"create_fierwall_rule": "role:admin"', "'create_fierwall_rule' is no rule"),
        ('"insert_rule": "role:admin or"', "is not understood"),
        ('"insert_rule": "role:admin role:member"', "is not understood"),
        ('"insert_rule": "(role:admin"', "is not understood"),
        ('"insert_rule": 3', "a check is a string"),
        ('"insert_rule": "http://example.org/"', "is no check here"),
        ('"insert_rule": "field:firewall_rules:shared=True"', "is no check here"),
        ('"insert_rule": "project_id:%(network_id)s"', "is no check here"),
        ('"insert_rule": "rule:nope"', "refers to a rule that is not there"),
        ('"insert_rule": "rule:insert_rule"', "refers to a rule that is not there, or in the end to itself"),
        ('"insert_rule": "not ROLE:reader"', "is no check here"),
        ('"insert_rule": "TRUE:%(shared)s"', "is no check here"),
        ('"insert_rule": ""', "the check is empty"),
        ('"insert_rule": "!"\n"insert_rule": "@"', "is given 2 times"),
        ("- insert_rule", "give lines of the form"),
        ("[", "policy_file"),
    ],
)
def test_a_file_that_does_not_say_what_it_means_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Authorisation(policy(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Authorisation(tmp_path)


@pytest.mark.parametrize("text", ["", "# nothing\n", '"insert_rule": "!"', '"insert_rule": "not (role:a or role:b)"'])
def test_a_file_may_say_little(tmp_path: Path, text: str) -> None:
    Authorisation(policy(tmp_path, text))


def sql(conditions: object) -> str:
    (condition,) = conditions  # type: ignore[misc]
    return str(condition.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))


def test_lists_are_narrowed_by_class_not_by_row() -> None:
    member = authority(MEMBER)
    columns = (FirewallRule.project_id, FirewallRule.shared)
    assert authority(ADMIN).where("get_firewall_rule", *columns) == []
    assert sql(authority(NOBODY).where("get_firewall_rule", *columns)) == "0 = 1"
    of_rules = sql(member.where("get_firewall_rule", *columns))
    assert "firewall_rules.project_id != 'p1' AND firewall_rules.shared IS 1" in of_rules
    assert "firewall_rules.project_id != 'p1' AND firewall_rules.shared IS 0" not in of_rules
    assert sql(member.where("get_port", Port.project_id, None)) == "ports.project_id = 'p1'"
