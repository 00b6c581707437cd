"""What decides for a port, as a table: its groups in order, and the rules of each."""

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from portward.cli.output import Format, out, plain, show_rows

_STYLE = {"allow": "green", "deny": "red", "reject": "yellow", "pass": "cyan"}
_COLUMNS = ("stratum", "group", "status", "direction", "rule", "action", "of")


def show_deciding(groups: Iterable[dict[str, Any]]) -> None:
    """Print ``groups`` as ``GET /v2.0/fwaas/effective/{port_id}`` has them, each with its ``status``."""
    out.print("\nWho decides, in this order; the first rule that matches does:")
    rows = [row for group in groups for row in _rows(group)]
    show_rows(Format.TABLE, _COLUMNS, rows, empty="no group covers the port, so it is not filtered")


def _rows(group: dict[str, Any]) -> Iterable[list[Any]]:
    head = [group["stratum"], group["name"] or group["id"], group["status"]]
    if group["id"] is None:
        return [[*head, None, "not for you to see", None, None]]
    if not group["admin_state_up"]:
        return [[*head, None, "it is down, and denies everything", None, None]]
    return [
        [*head, direction, *_rule(rule)]
        for direction in ("ingress", "egress")
        for rule in group[f"{direction}_rules"] or [None]
    ]


def _rule(rule: dict[str, Any] | None) -> list[Any]:
    if rule is None:
        return ["no rules", None, None]
    if rule["id"] is None:
        return [rule["name"], None, None]
    action = rule["action"] if rule["enabled"] else "(disabled)"
    return [rule["name"] or rule["id"], Text(action, _STYLE.get(action, "dim")), plain(_traffic(rule))]


def _traffic(rule: dict[str, Any]) -> str:
    """What the rule matches, in a line."""
    ends = [_end(rule, side) for side in ("source", "destination")]
    icmp = [str(rule[key]) for key in ("icmp_type", "icmp_code") if rule.get(key) is not None]
    protocol = "/".join([rule["protocol"] or "any", *icmp])
    return f"IPv{rule['ip_version']} {protocol} from {ends[0]} to {ends[1]}"


def _end(rule: dict[str, Any], side: str) -> str:
    named = [rule.get(f"{side}_{what}") for what in ("ip_address", "address_group_id", "firewall_group_id")]
    address = next((value for value in named if value), "anywhere")
    return f"{address} port {rule[f'{side}_port']}" if rule[f"{side}_port"] else str(address)
