"""The resources of the API: for each its attributes, and the functions of ``service`` that stand behind it."""

from sqlalchemy.orm import InstrumentedAttribute

from portward.api import address_converters as to_address
from portward.api import converters as to
from portward.api import filters
from portward.api.attributes import Attribute, Filter, stored, structure
from portward.api.authorisation import Authority
from portward.api.resource import WRITING, Resource, admins, boolean, leading, more_filters, shared, trailing
from portward.api.schema import Schema
from portward.model import Stratum
from portward.service import address_groups, groups, policies, ports, rules
from portward.service.errors import (
    AddressGroupNotFound,
    FirewallGroupNotFound,
    FirewallPolicyNotFound,
    FirewallRuleNotFound,
    PortNotFound,
)
from portward.service.rows import Narrow
from portward.service.scopes import Scope
from portward.service.status import Status, status_of
from portward.store.tables import AddressGroup, FirewallGroup, FirewallPolicy, FirewallRule, Port

#: Of attributes that only some may read.
_HIDDEN = frozenset({"get"})


def _address(column: InstrumentedAttribute[str | None], description: str) -> Attribute:
    return stored(column, description, to_address.address_or_prefix, convert_filter=to.string_or_null(4096))


def _port_range(column: InstrumentedAttribute[str | None], description: str) -> Attribute:
    return stored(
        column, description, to.port_range, update=to.port_range_or_clear, convert_filter=to.port_range_or_clear
    )


def _reference(column: InstrumentedAttribute[str | None], description: str) -> Attribute:
    return stored(column, description, to.uuid_or_null)


def _octet(column: InstrumentedAttribute[int | None], description: str) -> Attribute:
    return stored(column, description, to.octet_or_null, convert_filter=to.integer)


RULES = Resource(
    path="/fwaas/firewall_rules",
    table=FirewallRule,
    missing=FirewallRuleNotFound,
    has_defaults=True,
    find=rules.find_rule,
    create=rules.create_rule,
    get=rules.get_rule,
    list=rules.list_rules,
    update=rules.update_rule,
    delete=rules.delete_rule,
    schema=Schema(
        singular="firewall_rule",
        plural="firewall_rules",
        values=rules.RuleValues,
        filters=more_filters(FirewallRule),
        attributes=[
            *leading(FirewallRule),
            shared(FirewallRule.shared),
            stored(
                FirewallRule.protocol,
                "IP protocol, by name or number; null for any",
                to.protocol,
                convert_filter=to.protocol,
            ),
            stored(
                FirewallRule.ip_version,
                "The only version of IP that it matches",
                to.ip_version,
                default=4,
                convert_filter=to.ip_version,
            ),
            _address(FirewallRule.source_ip_address, "Address or prefix; null for any"),
            _address(FirewallRule.destination_ip_address, "Address or prefix; null for any"),
            _reference(FirewallRule.source_address_group_id, "Address group that holds the source; null for any"),
            _reference(FirewallRule.destination_address_group_id, "The same of the destination"),
            _reference(FirewallRule.source_firewall_group_id, "Firewall group of the VM that sends; null for any"),
            _reference(FirewallRule.destination_firewall_group_id, "The same of the VM that receives"),
            _port_range(FirewallRule.source_port, "Port or range `A:B`; null for any"),
            _port_range(FirewallRule.destination_port, "Port or range `A:B`; null for any"),
            _octet(FirewallRule.icmp_type, "Type of ICMP or ICMPv6; null for any"),
            _octet(FirewallRule.icmp_code, "Code of ICMP or ICMPv6; null for any"),
            stored(
                FirewallRule.action,
                "What becomes of a connection that it matches",
                to.action,
                default="deny",
                convert_filter=to.action,
            ),
            boolean(FirewallRule.enabled, "Whether it takes part at all", default=True),
            Attribute(
                name="firewall_policy_id",
                key="firewall_policy_id",
                description="Ids of the policies in which it stands; null for none",
                read=lambda view: list(view.policy_ids) or None,
                schema={"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1},
                filter=filters.holders(rules.in_policies),
            ),
            *trailing(FirewallRule),
        ],
    ),
)

POLICIES = Resource(
    path="/fwaas/firewall_policies",
    table=FirewallPolicy,
    missing=FirewallPolicyNotFound,
    has_defaults=True,
    find=policies.find_policy,
    create=policies.create_policy,
    get=policies.get_policy,
    list=policies.list_policies,
    update=policies.update_policy,
    delete=policies.delete_policy,
    schema=Schema(
        singular="firewall_policy",
        plural="firewall_policies",
        values=policies.PolicyValues,
        filters=more_filters(FirewallPolicy),
        attributes=[
            *leading(FirewallPolicy),
            shared(FirewallPolicy.shared),
            boolean(FirewallPolicy.audited, "Whether somebody has reviewed it as it is now", default=False),
            Attribute(
                name="firewall_rules",
                key="firewall_rules",
                description="Ids of its rules; the first that matches decides",
                read=lambda view: view.rule_ids,
                schema=to.uuid_list.shows,
                convert=to.uuid_list,
                convert_update=to.uuid_list,
                filter=filters.members(policies.with_rules),
            ),
            *trailing(FirewallPolicy),
        ],
    ),
)

GROUPS = Resource(
    path="/fwaas/firewall_groups",
    table=FirewallGroup,
    missing=FirewallGroupNotFound,
    has_defaults=True,
    find=groups.find_group,
    create=groups.create_group,
    get=groups.get_group,
    list=groups.list_groups,
    update=groups.update_group,
    delete=groups.delete_group,
    schema=Schema(
        singular="firewall_group",
        plural="firewall_groups",
        values=groups.GroupValues,
        filters=more_filters(FirewallGroup),
        attributes=[
            *leading(FirewallGroup),
            shared(FirewallGroup.shared),
            admins(
                FirewallGroup.stratum,
                "Whose it is to decide: the admin's first, then the tenant's, then the baseline",
                to.one_of(Stratum),
                default=Stratum.TENANT.value,
            ),
            admins(
                FirewallGroup.position, "Place among the groups of its stratum, lowest first", to.position, default=0
            ),
            admins(
                FirewallGroup.scope,
                "Which ports it protects: those in `ports`, or all of `project_ids`, or all, now and later",
                to.one_of(Scope),
                default=Scope.PORTS.value,
            ),
            Attribute(
                name="project_ids",
                key="project_ids",
                description="Projects of the scope `projects`",
                read=lambda view: view.project_ids,
                schema=to.project_list.shows,
                convert=to.project_list,
                convert_update=to.project_list,
                default=None,
                guards=WRITING,
            ),
            boolean(FirewallGroup.admin_state_up, "False: it denies everything", default=True),
            Attribute(
                name="status",
                key="status",
                description="How far the hosts are with it",
                read=lambda view: view.status,
                schema={"enum": list(Status)},
                filter=filters.status(),
                sort=lambda context: status_of(context.now),
            ),
            Attribute(
                name="ports",
                key="ports",
                description="Ids of the ports that it protects; set only if its scope is `ports`",
                read=lambda view: view.port_ids,
                schema=to.uuid_list.shows,
                convert=to.uuid_list,
                convert_update=to.uuid_list,
                filter=filters.members(groups.with_ports),
            ),
            stored(
                FirewallGroup.ingress_firewall_policy_id,
                "Policy of what goes to the port; null denies all",
                to.uuid_or_null,
            ),
            stored(
                FirewallGroup.egress_firewall_policy_id,
                "Policy of what comes from the port; null denies all",
                to.uuid_or_null,
            ),
            *trailing(FirewallGroup),
        ],
    ),
)

ADDRESS_GROUPS = Resource(
    path="/address-groups",
    table=AddressGroup,
    missing=AddressGroupNotFound,
    has_defaults=False,
    find=address_groups.find_address_group,
    create=address_groups.create_address_group,
    get=address_groups.get_address_group,
    list=address_groups.list_address_groups,
    update=address_groups.update_address_group,
    delete=address_groups.delete_address_group,
    schema=Schema(
        singular="address_group",
        plural="address_groups",
        values=address_groups.AddressGroupValues,
        filters=more_filters(AddressGroup),
        attributes=[
            *leading(AddressGroup),
            shared(AddressGroup.shared),
            Attribute(
                name="addresses",
                key="addresses",
                description="Prefixes of both IP versions, in their canonical form",
                read=lambda view: view.addresses,
                schema=to_address.prefix_list.shows,
                convert=to_address.prefix_list,
                convert_update=to_address.prefix_list,
                filter=Filter(to_address.canonical_prefix, lambda values, _: address_groups.with_addresses(values)),
            ),
            *trailing(AddressGroup),
        ],
    ),
)

PORTS = Resource(
    path="/ports",
    table=Port,
    missing=PortNotFound,
    has_defaults=False,
    find=ports.find_port,
    create=ports.create_port,
    get=ports.get_port,
    list=ports.list_ports,
    update=ports.update_port,
    delete=ports.delete_port,
    schema=Schema(
        singular="port",
        plural="ports",
        values=ports.PortValues,
        filters=more_filters(Port),
        attributes=[
            *leading(Port),
            stored(Port.network_id, "UUID of its network", to.string(36), default="", update=False),
            stored(Port.mac_address, "MAC address", to_address.mac_address, convert_filter=to_address.mac_address),
            structure(Port.fixed_ips, "Its addresses", to_address.fixed_ips, filter=filters.fixed_ips()),
            stored(Port.device_owner, "What kind of device it belongs to", to.string_or_empty(255)),
            stored(Port.device_id, "Id of that device", to.string_or_empty(255)),
            stored(Port.host, "Host that realises it", to.string_or_empty(255), name="binding:host_id", guards=_HIDDEN),
            structure(
                Port.binding_profile,
                "How its host finds its device: `netns`, `device`",
                to.profile,
                name="binding:profile",
                guards=_HIDDEN,
            ),
            structure(Port.allowed_address_pairs, "Further sources that it may send from", to_address.address_pairs),
            boolean(Port.port_security_enabled, "Whether its sources are checked", default=True),
            boolean(Port.admin_state_up, "Kept for clients; without effect", default=True),
            stored(Port.status, "Kept for clients"),
            *trailing(Port),
        ],
    ),
)


def narrowing(authority: Authority) -> Narrow:
    """The operator's rules about who may get what, for whoever asks about several tables at once."""
    singulars = {resource.table: resource.schema.singular for resource in (RULES, POLICIES, GROUPS, ADDRESS_GROUPS)}
    return lambda table: authority.where(f"get_{singulars[table]}", table.project_id, table.shared)


ALL = (RULES, POLICIES, GROUPS, ADDRESS_GROUPS, PORTS)
