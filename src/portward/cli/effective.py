"""What decides for a port, as a table: its groups in order, and the rules of each."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.text import Text

from portward.cli.http import Client
from portward.cli.output import Format, out, plain, show_rows

_STYLE = {"allow": "green", "deny": "red", "reject": "yellow", "pass": "cyan"}
#: What of a rule names a set of addresses: where the API lists such sets.
_SETS = {
    "address_group": ("/v2.0/address-groups", "address_groups"),
    "firewall_group": ("/v2.0/fwaas/firewall_groups", "firewall_groups"),
}
_SIDES = ("source", "destination")
_COLUMNS = ("stratum", "group", "status", "direction", "rule", "action", "of")


def set_names(api: Client, groups: Iterable[dict[str, Any]]) -> dict[str, str]:
    """What the sets of addresses in the rules of ``groups`` are called, by id: those that the caller may see."""
    rules = [rule for group in groups for rule in (*group["ingress_rules"], *group["egress_rules"])]
    names: dict[str, str] = {}
    for kind, (path, listed) in _SETS.items():
        if any(rule.get(f"{side}_{kind}_id") for rule in rules for side in _SIDES):
            names |= {found["id"]: found["name"] for found in api.get(path, fields=["id", "name"])[listed]}
    return names


def show_deciding(groups: Iterable[dict[str, Any]], names: Mapping[str, str]) -> None:
    """Print ``groups`` as ``GET /v2.0/fwaas/effective/{port_id}`` has them, each with its ``status``.

    ``names`` are those of the sets of addresses; one that is not there, or has none, is shown by its id.
    """
    out.print("\nWho decides, in this order; the first rule that matches does:")
    rows = [row for group in groups for row in _rows(group, names)]
    show_rows(Format.TABLE, _COLUMNS, rows, empty="no group covers the port, so it is not filtered")


def _rows(group: dict[str, Any], names: Mapping[str, str]) -> Iterable[list[Any]]:
    head = [group["stratum"], group["name"] or group["id"], group["status"]]
    if group["id"] is None:
        return [[*head, None, "not for you to see", None, None]]
    if not group["admin_state_up"]:
        return [[*head, None, "it is down, and denies everything", None, None]]
    return [
        [*head, direction, *_rule(rule, names)]
        for direction in ("ingress", "egress")
        for rule in group[f"{direction}_rules"] or [None]
    ]


def _rule(rule: dict[str, Any] | None, names: Mapping[str, str]) -> list[Any]:
    if rule is None:
        return ["no rules", None, None]
    if rule["id"] is None:
        return [rule["name"], None, None]
    action = rule["action"] if rule["enabled"] else "(disabled)"
    return [rule["name"] or rule["id"], Text(action, _STYLE.get(action, "dim")), plain(_traffic(rule, names))]


def _traffic(rule: dict[str, Any], names: Mapping[str, str]) -> str:
    """What the rule matches, in a line."""
    ends = [_end(rule, side, names) for side in _SIDES]
    icmp = [str(rule[key]) for key in ("icmp_type", "icmp_code") if rule.get(key) is not None]
    protocol = "/".join([rule["protocol"] or "any", *icmp])
    return f"IPv{rule['ip_version']} {protocol} from {ends[0]} to {ends[1]}"


def _end(rule: dict[str, Any], side: str, names: Mapping[str, str]) -> str:
    address = rule[f"{side}_ip_address"] or "anywhere"
    for kind in _SETS:
        if id_ := rule.get(f"{side}_{kind}_id"):
            address = f"{kind.replace('_', ' ')} {names.get(id_) or id_}"
    return f"{address} port {rule[f'{side}_port']}" if rule[f"{side}_port"] else address
