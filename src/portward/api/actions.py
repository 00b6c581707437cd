"""Requests that are not about a resource as a whole. Those on policies are not enveloped, as in Neutron."""

from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from portward.api.body import parse_json, refuse_unknown
from portward.api.errors import HTTPBadRequest
from portward.api.packets import PACKET_FIELDS, parse_packet
from portward.api.resources import POLICIES
from portward.model import Direction
from portward.service import groups, policies
from portward.service.context import Context
from portward.service.errors import (
    FirewallRuleInfoMissing,
    FirewallRuleNotAssociatedWithPolicy,
    FirewallRuleNotFound,
    PortNotFound,
)
from portward.service.explain import explain as explained


def insert_rule(session: Session, context: Context, policy_id: str, body: bytes) -> dict[str, Any]:
    """Put a rule into a policy. Missing, null and "" mean the same for the rule to stand before or after."""
    given = _object(body)
    rule_id = _rule_id(given, {"firewall_rule_id", "insert_before", "insert_after"})
    before, after = (_neighbour(given, name, policy_id) for name in ("insert_before", "insert_after"))
    return POLICIES.schema.show(policies.insert_rule(session, context, policy_id, rule_id, before=before, after=after))


def remove_rule(session: Session, context: Context, policy_id: str, body: bytes) -> dict[str, Any]:
    """Take a rule out of a policy."""
    rule_id = _rule_id(_object(body), {"firewall_rule_id"})
    return POLICIES.schema.show(policies.remove_rule(session, context, policy_id, rule_id))


def realisation(session: Session, context: Context, group_id: str, _body: bytes) -> dict[str, Any]:
    """What became of a group, port by port."""
    return {"realisation": msgspec.to_builtins(groups.group_realisation(session, context, group_id))}


def explain(session: Session, context: Context, _id: str, body: bytes) -> dict[str, Any]:
    """Which rule decides a packet at a port, and why none before it does."""
    envelope = _object(body)
    given = _member(envelope, "explain", {"port_id", "direction", "packet"})
    refuse_unknown(envelope, {"explain"})
    port_id, direction = given.get("port_id"), given.get("direction")
    if not isinstance(port_id, str):
        raise PortNotFound(port_id)
    if direction not in ("ingress", "egress"):
        raise HTTPBadRequest("Invalid input for direction. Reason: give ingress or egress.")
    packet = parse_packet(_member(given, "packet", PACKET_FIELDS))
    return {"explanation": msgspec.to_builtins(explained(session, context, port_id, Direction(direction), packet))}


def _member(given: dict[str, Any], name: str, known: AbstractSet[str]) -> dict[str, Any]:
    member = given.get(name)
    if not isinstance(member, dict):
        raise HTTPBadRequest(f"Unable to find '{name}' in request body")
    refuse_unknown(member, known)
    return member


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        raise HTTPBadRequest("Resource body required")
    given = parse_json(body)
    if not isinstance(given, dict):
        raise HTTPBadRequest('The body is a JSON object, such as {"firewall_rule_id": "..."}')
    return given


def _rule_id(given: dict[str, Any], known: AbstractSet[str]) -> str:
    if "firewall_rule_id" not in given:
        raise FirewallRuleInfoMissing
    refuse_unknown(given, known)
    rule_id = given["firewall_rule_id"]
    if not isinstance(rule_id, str):
        raise FirewallRuleNotFound(rule_id)
    return rule_id


def _neighbour(given: dict[str, Any], name: str, policy_id: str) -> str | None:
    neighbour = given.get(name)
    if neighbour is not None and not isinstance(neighbour, str):
        raise FirewallRuleNotAssociatedWithPolicy(neighbour, policy_id)
    return neighbour or None
