"""Requests that are not about a resource as a whole. Those on policies are not enveloped, nor are bodies of those on
address groups, as in Neutron."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from portward.api import address_converters as to_address
from portward.api.attributes import iso
from portward.api.body import parse_json, refuse_unknown
from portward.api.call import Call
from portward.api.collection import shown
from portward.api.errors import HTTPBadRequest
from portward.api.packets import PACKET_FIELDS, parse_packet
from portward.api.resources import ADDRESS_GROUPS, GROUPS, POLICIES, PORTS, narrowing
from portward.api.schema import convert_value
from portward.model import Direction
from portward.service import address_groups, groups, policies, ports
from portward.service.agents import HostInfo, list_hosts
from portward.service.errors import (
    FirewallRuleInfoMissing,
    FirewallRuleNotAssociatedWithPolicy,
    FirewallRuleNotFound,
    PortNotFound,
)
from portward.service.explain import explain as explained

_Work = Callable[[Session], Any]


def insert_rule(call: Call) -> _Work:
    """Put a rule into a policy. Missing, null and "" mean the same for the rule to stand before or after."""
    given = _object(call.body)
    rule_id = _rule_id(given, {"firewall_rule_id", "insert_before", "insert_after"})
    before, after = (_neighbour(given, name, call.path["id"]) for name in ("insert_before", "insert_after"))

    def work(session: Session) -> dict[str, Any]:
        policy = call.find(session, POLICIES, ["insert_rule"])
        view = policies.insert_rule(session, call.context, policy.id, rule_id, before=before, after=after)
        return shown(POLICIES, call)(view)

    return work


def remove_rule(call: Call) -> _Work:
    """Take a rule out of a policy."""
    rule_id = _rule_id(_object(call.body), {"firewall_rule_id"})

    def work(session: Session) -> dict[str, Any]:
        policy = call.find(session, POLICIES, ["remove_rule"])
        return shown(POLICIES, call)(policies.remove_rule(session, call.context, policy.id, rule_id))

    return work


def add_addresses(call: Call) -> _Work:
    """Add prefixes to an address group."""
    return _change_addresses(call, address_groups.add_addresses)


def remove_addresses(call: Call) -> _Work:
    """Take prefixes out of an address group."""
    return _change_addresses(call, address_groups.remove_addresses)


def _change_addresses(call: Call, change: Callable[..., Any]) -> _Work:
    given = _object(call.body)
    refuse_unknown(given, {"addresses"})
    if "addresses" not in given:
        raise HTTPBadRequest("Unable to find 'addresses' in request body")
    addresses = convert_value("addresses", to_address.prefix_list, given["addresses"])

    def work(session: Session) -> dict[str, Any]:
        group = call.find(session, ADDRESS_GROUPS, ["update_address_group"])
        view = change(session, call.context, group.id, addresses)
        return {ADDRESS_GROUPS.schema.singular: shown(ADDRESS_GROUPS, call)(view)}

    return work


def realisation(call: Call) -> _Work:
    """What became of a group, port by port; on which hosts, for those who may know."""

    def work(session: Session) -> dict[str, Any]:
        rule = "get_firewall_group_realisation"
        group = call.find(session, GROUPS, [rule])
        found = msgspec.to_builtins(groups.group_realisation(session, call.context, group.id))
        if not call.authority.allows(f"{rule}:host", group.project_id):
            for port in found["ports"]:
                del port["host"]
        return {"realisation": found}

    return work


def explain(call: Call) -> _Work:
    """Which rule decides a packet at a port, and why none before it does."""
    envelope = _object(call.body)
    given = _member(envelope, "explain", {"port_id", "direction", "packet"})
    refuse_unknown(envelope, {"explain"})
    port_id, direction = given.get("port_id"), given.get("direction")
    if not isinstance(port_id, str):
        raise PortNotFound(port_id)
    if direction not in ("ingress", "egress"):
        raise HTTPBadRequest("Invalid input for direction. Reason: give ingress or egress.")
    packet = parse_packet(_member(given, "packet", PACKET_FIELDS))

    def work(session: Session) -> dict[str, Any]:
        port = ports.find_port(session, call.context, port_id)
        if not call.authority.sees(PORTS.schema.singular, port):
            raise PortNotFound(port_id)
        call.authority.require(["explain"], port.project_id)
        narrow = narrowing(call.authority)
        found = explained(session, call.context, port.id, Direction(direction), packet, narrow)
        return {"explanation": msgspec.to_builtins(found)}

    return work


def hosts(call: Call) -> _Work:
    """The hosts, and what their agents last said."""
    call.authority.require(["get_hosts"], call.context.project_id)
    return lambda session: {"hosts": [_host(host) for host in list_hosts(session, call.context.now)]}


def _host(host: HostInfo) -> dict[str, Any]:
    return {
        "name": host.name,
        "silent": host.silent,
        "revoked": host.revoked_at is not None,
        "realised_generation": host.realised_generation,
        "last_poll_at": None if host.last_poll_at is None else iso(host.last_poll_at),
        "created_at": iso(host.created_at),
    }


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
