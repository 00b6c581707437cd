"""The default group of each project, its two policies and its four rules, as ``[default_firewall_group]`` says.

They are told by ``default_of``, not by their names. Members cannot change them, whatever the way in; admins can. A
project's VM ports that no other group covers belong to its default group, and enter it when it is made.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import ColumnElement, exists, func, insert, or_, select
from sqlalchemy.orm import Session

from portward.model import PortKind, Stratum, port_kind
from portward.service.address_sets import GROUPS, unname_groups
from portward.service.context import Context
from portward.service.errors import (
    FirewallDefaultObjectUpdateRestricted,
    FirewallDefaultParameterExists,
    FirewallPolicyInUse,
    FirewallRuleInUse,
)
from portward.service.rows import AnyRow, delete_rows, given, select_in
from portward.store import raise_generation
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, GroupPort, PolicyRule, Port

_NAME = "default"
_DIRECTIONS = ("ingress", "egress")
_KINDS = {FirewallRule: "Firewall Rule", FirewallPolicy: "Firewall Policy", FirewallGroup: "Firewall Group"}
_RESERVED = {FirewallPolicy: {f"{_NAME} {direction}" for direction in _DIRECTIONS}, FirewallGroup: {_NAME}}


def missing(session: Session, context: Context) -> bool:
    """Whether the caller's project is still to get its default group; one statement."""
    if not context.default_group.enabled or not context.project_id:
        return False
    found = select(FirewallGroup.id).where(FirewallGroup.default_of == context.project_id)
    return session.scalar(found) is None


def ensure(session: Session, context: Context, project_id: str) -> None:
    """Make the project's default group, unless it is there or the operator wants none.

    Call it in an ordered writing transaction: that, and a unique constraint, make it one.
    """
    if context.default_group.enabled and project_id:
        _homes(session, context, {project_id})


def enter(session: Session, context: Context, ports: Mapping[str, str]) -> set[str]:
    """Put these VM ports, which no tenant group covers, into the default groups of their projects.

    ``ports`` has the project of each. Returns the groups that were there before and cover more now; to mark them is
    left to the caller.
    """
    if not context.default_group.enabled or not ports:
        return set()
    homes = _homes(session, context, set(ports.values()))
    members = []
    for port_id, project_id in ports.items():
        if project_id in homes:
            group_id, position = homes[project_id]
            homes[project_id] = (group_id, position + 1)
            members.append({"group_id": group_id, "port_id": port_id, "position": position})
    if members:
        session.execute(insert(GroupPort), members)
    return {group_id for group_id, _ in homes.values()}


def in_no_tenant_group() -> ColumnElement[bool]:
    """Condition on ports: no tenant group covers the port."""
    covering = (FirewallGroup.id == GroupPort.group_id, FirewallGroup.stratum == Stratum.TENANT.value)
    return ~exists().where(GroupPort.port_id == Port.id, *covering)


def check_name(
    table: type[FirewallPolicy] | type[FirewallGroup], values: msgspec.Struct, row: AnyRow | None = None
) -> None:
    """Refuse to call anything but a default object, be it new or ``row``, by a default object's name.

    Raises:
        FirewallDefaultParameterExists: ``values`` hold such a name.
    """
    name = getattr(values, "name", None)
    if name in _RESERVED[table] and (row is None or getattr(row, "default_of", None) is None):
        raise FirewallDefaultParameterExists(name, _KINDS[table])


def protect(row: AnyRow, context: Context) -> None:
    """Refuse a change of a default object by a member.

    Raises:
        FirewallDefaultObjectUpdateRestricted: it is one, and the caller is no admin.
    """
    if getattr(row, "default_of", None) is not None and not context.is_admin:
        raise _restricted(row)


def protect_values(row: AnyRow, context: Context, values: msgspec.Struct) -> None:
    """As ``protect``, for a change to ``values``, which may be none.

    A member may say which ports a default group covers, and nothing else; its name and stratum are fixed for admins
    too.

    Raises:
        FirewallDefaultObjectUpdateRestricted: ``values`` hold what the caller may not change.
    """
    if getattr(row, "default_of", None) is None:
        return
    fixed = given(values)
    if isinstance(row, FirewallGroup):
        fixed = fixed & {"name", "stratum"} if context.is_admin else fixed - {"ports"}
    elif context.is_admin:
        return
    if fixed:
        raise _restricted(row)


def protect_places(context: Context, places: Iterable[Any]) -> None:
    """Refuse a member's change of a rule that decides in a default policy, even where the rule is no default.

    ``places`` (``policy_id``, ``default_of``) are all policies in which it stands.

    Raises:
        FirewallDefaultObjectUpdateRestricted: one of them is a default policy, and the caller is no admin.
    """
    for place in places:
        if place.default_of is not None and not context.is_admin:
            raise FirewallDefaultObjectUpdateRestricted(place.policy_id, _KINDS[FirewallPolicy])


def delete_default(session: Session, group: FirewallGroup) -> None:
    """Delete a default group, which covers no port, with the policies and rules of that default.

    What an admin had put into them and is no default itself stays.

    Raises:
        FirewallPolicyInUse, FirewallRuleInUse: one of them is used elsewhere too.
    """
    policies = set(session.scalars(select(FirewallPolicy.id).where(FirewallPolicy.default_of == group.default_of)))
    rules = set(session.scalars(select(FirewallRule.id).where(FirewallRule.default_of == group.default_of)))
    ingress, egress = FirewallGroup.ingress_firewall_policy_id, FirewallGroup.egress_firewall_policy_id
    others = select(ingress, egress).where(
        or_(ingress.in_(policies), egress.in_(policies)), FirewallGroup.id != group.id
    )
    for used in session.execute(others):
        raise FirewallPolicyInUse(next(id_ for id_ in used if id_ in policies))
    elsewhere = select(PolicyRule.rule_id).where(PolicyRule.rule_id.in_(rules), PolicyRule.policy_id.not_in(policies))
    for rule_id in session.scalars(elsewhere):
        raise FirewallRuleInUse(rule_id)
    delete_rows(session, FirewallGroup, [group.id])
    delete_rows(session, FirewallPolicy, policies)
    named = [
        id_ for sides in session.execute(select(*GROUPS).where(FirewallRule.id.in_(rules))) for id_ in sides if id_
    ]
    delete_rows(session, FirewallRule, rules)
    unname_groups(session, named)


def _restricted(row: AnyRow) -> FirewallDefaultObjectUpdateRestricted:
    return FirewallDefaultObjectUpdateRestricted(row.id, _KINDS[type(row)])


def _homes(session: Session, context: Context, projects: Collection[str]) -> dict[str, tuple[str, int]]:
    """Default group and next free position in it, of those projects that have one; the others get theirs, filled."""
    last = (
        select(func.coalesce(func.max(GroupPort.position), -1))
        .where(GroupPort.group_id == FirewallGroup.id)
        .scalar_subquery()
    )
    query = select(FirewallGroup.default_of, FirewallGroup.id, (last + 1).label("position"))
    homes = {
        row.default_of: (row.id, row.position) for row in select_in(session, query, FirewallGroup.default_of, projects)
    }
    if new := [project_id for project_id in projects if project_id not in homes]:
        _make(session, context, new)
    return homes


def _make(session: Session, context: Context, projects: Collection[str]) -> None:
    """Make the default groups of these projects, with their VM ports that no tenant group covers."""
    uncovered = select(Port.id, Port.project_id, Port.device_owner).where(in_no_tenant_group())
    ports: dict[str, list[str]] = {project_id: [] for project_id in projects}
    for port in select_in(session, uncovered.order_by(Port.id), Port.project_id, projects):
        if port_kind(port.device_owner) is PortKind.VM:
            ports[port.project_id].append(port.id)
    generation = raise_generation(session) if any(ports.values()) else 0
    rules, policies, places, groups, members = [], [], [], [], []
    for project_id, port_ids in ports.items():
        group = _row(context, project_id, _NAME, "Default firewall group")
        for direction in _DIRECTIONS:
            policy = _row(context, project_id, f"{_NAME} {direction}", f"{direction.capitalize()} firewall policy")
            policies.append(policy)
            group[f"{direction}_firewall_policy_id"] = policy["id"]
            for position, ip_version in enumerate((4, 6)):
                rule = _rule(context, project_id, direction, ip_version)
                rules.append(rule)
                places.append({"policy_id": policy["id"], "rule_id": rule["id"], "position": position})
        groups.append(group | {"generation": generation if port_ids else 0, "changed_at": context.now})
        members += [
            {"group_id": group["id"], "port_id": port_id, "position": position}
            for position, port_id in enumerate(port_ids)
        ]
    _insert(session, FirewallRule, rules)
    _insert(session, FirewallPolicy, policies)
    _insert(session, PolicyRule, places)
    _insert(session, FirewallGroup, groups)
    _insert(session, GroupPort, members)


def _insert(session: Session, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    if rows := list(rows):
        session.execute(insert(table), rows)


def _row(context: Context, project_id: str, name: str, description: str) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "project_id": project_id,
        "default_of": project_id,
        "name": name,
        "description": description,
        "created_at": context.now,
        "updated_at": context.now,
    }


def _rule(context: Context, project_id: str, direction: str, ip_version: int) -> dict[str, Any]:
    config = context.default_group

    def configured(key: str) -> Any:
        return getattr(config, f"{direction}_{key}")

    name = f"{_NAME} {direction} ipv{ip_version}"
    return _row(context, project_id, name, f"default {direction} rule for IPv{ip_version}") | {
        "ip_version": ip_version,
        "protocol": config.protocol,
        "action": configured("action"),
        "enabled": config.ingress_enabled or direction == "egress",
        "source_ip_address": configured(f"source_ipv{ip_version}_address"),
        "destination_ip_address": configured(f"destination_ipv{ip_version}_address"),
        "source_port": configured("source_port"),
        "destination_port": configured("destination_port"),
    }
