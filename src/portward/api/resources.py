"""The resources of the API: for each its attributes, and the functions of ``service`` that stand behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET
from sqlalchemy.orm import InstrumentedAttribute

from portward.api import converters as to
from portward.api.attributes import Attribute, Schema, stored, timestamp
from portward.service import groups, policies, ports, rules
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, Port

_Table = type[FirewallRule] | type[FirewallPolicy] | type[FirewallGroup] | type[Port]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource at ``path`` below ``/v2.0``; the functions take (session, context, ...) as in ``service``."""

    schema: Schema
    path: str
    create: Callable[..., Any]
    get: Callable[..., Any]
    list: Callable[..., Sequence[Any]]
    update: Callable[..., Any]
    delete: Callable[..., None]


def _leading(table: _Table) -> list[Attribute]:
    project = stored(table.project_id, to.string(36), default=UNSET, update=False)
    tenant = stored(table.project_id, to.string(36), default=UNSET, update=False, name="tenant_id")
    return [
        stored(table.id),
        project,
        tenant,
        stored(table.name, to.string(255), default=""),
        stored(table.description, to.string(255), default=""),
    ]


def _trailing(table: _Table) -> list[Attribute]:
    return [
        stored(table.revision_number, convert_filter=to.integer),
        timestamp(table.created_at),
        timestamp(table.updated_at),
        Attribute(name="tags", key="tags", read=lambda _view: [], filterable=False),
    ]


def _boolean(column: InstrumentedAttribute[bool], *, default: bool) -> Attribute:
    return stored(column, to.boolean, default=default, convert_filter=to.boolean)


def _address(column: InstrumentedAttribute[str | None]) -> Attribute:
    return stored(column, to.address_or_prefix, convert_filter=lambda value: value or None)


def _port_range(column: InstrumentedAttribute[str | None]) -> Attribute:
    return stored(column, to.port_range, update=to.port_range_or_clear, convert_filter=to.port_range_or_clear)


def _policy_id(column: InstrumentedAttribute[str | None]) -> Attribute:
    return stored(column, to.uuid_or_null)


RULES = Resource(
    path="/fwaas/firewall_rules",
    create=rules.create_rule,
    get=rules.get_rule,
    list=rules.list_rules,
    update=rules.update_rule,
    delete=rules.delete_rule,
    schema=Schema(
        singular="firewall_rule",
        plural="firewall_rules",
        values=rules.RuleValues,
        null_only=frozenset({"source_firewall_group_id", "destination_firewall_group_id"}),
        attributes=[
            *_leading(FirewallRule),
            _boolean(FirewallRule.shared, default=False),
            stored(FirewallRule.protocol, to.protocol, convert_filter=to.protocol),
            stored(FirewallRule.ip_version, to.ip_version, default=4, convert_filter=to.ip_version),
            _address(FirewallRule.source_ip_address),
            _address(FirewallRule.destination_ip_address),
            _port_range(FirewallRule.source_port),
            _port_range(FirewallRule.destination_port),
            stored(FirewallRule.action, to.action, default="deny", convert_filter=to.action),
            _boolean(FirewallRule.enabled, default=True),
            Attribute(
                name="firewall_policy_id",
                key="firewall_policy_id",
                read=lambda view: list(view.policy_ids) or None,
                condition=rules.in_policies,
            ),
            *_trailing(FirewallRule),
        ],
    ),
)

POLICIES = Resource(
    path="/fwaas/firewall_policies",
    create=policies.create_policy,
    get=policies.get_policy,
    list=policies.list_policies,
    update=policies.update_policy,
    delete=policies.delete_policy,
    schema=Schema(
        singular="firewall_policy",
        plural="firewall_policies",
        values=policies.PolicyValues,
        attributes=[
            *_leading(FirewallPolicy),
            _boolean(FirewallPolicy.shared, default=False),
            _boolean(FirewallPolicy.audited, default=False),
            Attribute(
                name="firewall_rules",
                key="firewall_rules",
                read=lambda view: view.rule_ids,
                convert=to.uuid_list,
                convert_update=to.uuid_list,
                condition=policies.with_rules,
            ),
            *_trailing(FirewallPolicy),
        ],
    ),
)

GROUPS = Resource(
    path="/fwaas/firewall_groups",
    create=groups.create_group,
    get=groups.get_group,
    list=groups.list_groups,
    update=groups.update_group,
    delete=groups.delete_group,
    schema=Schema(
        singular="firewall_group",
        plural="firewall_groups",
        values=groups.GroupValues,
        attributes=[
            *_leading(FirewallGroup),
            _boolean(FirewallGroup.shared, default=False),
            _boolean(FirewallGroup.admin_state_up, default=True),
            Attribute(name="status", key="status", read=lambda view: view.status),
            Attribute(
                name="ports",
                key="ports",
                read=lambda view: view.port_ids,
                convert=to.uuid_list,
                convert_update=to.uuid_list,
                condition=groups.with_ports,
            ),
            _policy_id(FirewallGroup.ingress_firewall_policy_id),
            _policy_id(FirewallGroup.egress_firewall_policy_id),
            *_trailing(FirewallGroup),
        ],
    ),
)

PORTS = Resource(
    path="/ports",
    create=ports.create_port,
    get=ports.get_port,
    list=ports.list_ports,
    update=ports.update_port,
    delete=ports.delete_port,
    schema=Schema(
        singular="port",
        plural="ports",
        values=ports.PortValues,
        attributes=[
            *_leading(Port),
            stored(Port.network_id, to.string(36), default="", update=False),
            stored(Port.mac_address, to.mac_address, convert_filter=to.mac_address),
            stored(Port.fixed_ips, to.fixed_ips, filterable=False),
            stored(Port.device_owner, to.string_or_empty(255)),
            stored(Port.device_id, to.string_or_empty(255)),
            stored(Port.host, to.string_or_empty(255), name="binding:host_id"),
            stored(Port.binding_profile, to.profile, name="binding:profile", filterable=False),
            stored(Port.allowed_address_pairs, to.address_pairs, filterable=False),
            _boolean(Port.port_security_enabled, default=True),
            _boolean(Port.admin_state_up, default=True),
            stored(Port.status),
            *_trailing(Port),
        ],
    ),
)

ALL = (RULES, POLICIES, GROUPS, PORTS)
