"""Firewall rules: one line of a policy each; a rule may stand in many policies.

Any change of a rule makes the policies it stands in unaudited. A change of what it matches or does, unless it is
disabled before and after, reaches the hosts.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from portward.service.address_sets import NAMES, name_groups, unname_groups
from portward.service.changes import decisions_changed
from portward.service.context import Context
from portward.service.default_group import protect, protect_places, protect_values
from portward.service.errors import (
    FirewallIpAddressConflict,
    FirewallRuleAddressConflict,
    FirewallRuleIcmpConflict,
    FirewallRuleInUse,
    FirewallRuleInvalidICMPParameter,
    FirewallRuleNotFound,
    FirewallRuleWithPortWithoutProtocolInvalid,
)
from portward.service.quota import check_quota
from portward.service.rows import (
    ALL,
    Page,
    add,
    assign,
    delete_rows,
    find,
    listed,
    may_see,
    project_of,
    select_in,
    touch,
    visible,
)
from portward.service.sharing import check_addresses, check_rule_unsharing
from portward.service.strata import JUDGED, applying, check_pass, check_strata, refuse_guarded
from portward.service.tags import tags_of
from portward.store.tables import FirewallPolicy, FirewallRule, PolicyRule

_PROTOCOLS_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "dccp"})
#: What a packet's fate depends on.
_DECIDING = frozenset(
    {
        "action",
        "enabled",
        "ip_version",
        "protocol",
        "source_ip_address",
        "destination_ip_address",
        "source_port",
        "destination_port",
        "icmp_type",
        "icmp_code",
        *(column.key for column in NAMES),
    }
)
_SIDES = ("source", "destination")
_ICMP = frozenset({"icmp", "ipv6-icmp"})


class RuleValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a new rule, or changes of one; what is ``UNSET`` takes its default, or stays.

    Each is well-formed by itself: ``protocol`` one of the names that ports or ICMP have, or a string of digits;
    addresses as the user wrote them; ports ``"N"`` or ``"A:B"``.
    """

    project_id: str | UnsetType = UNSET  # of a new rule only
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    protocol: str | UnsetType | None = UNSET
    ip_version: int | UnsetType = UNSET
    source_ip_address: str | UnsetType | None = UNSET
    destination_ip_address: str | UnsetType | None = UNSET
    source_port: str | UnsetType | None = UNSET
    destination_port: str | UnsetType | None = UNSET
    source_address_group_id: str | UnsetType | None = UNSET
    destination_address_group_id: str | UnsetType | None = UNSET
    source_firewall_group_id: str | UnsetType | None = UNSET
    destination_firewall_group_id: str | UnsetType | None = UNSET
    icmp_type: int | UnsetType | None = UNSET  # 0 to 255
    icmp_code: int | UnsetType | None = UNSET  # 0 to 255
    action: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and those policies in which it stands that the caller sees, by id."""

    row: FirewallRule
    policy_ids: tuple[str, ...]
    tags: tuple[str, ...] = ()


def create_rule(session: Session, context: Context, values: RuleValues) -> RuleView:
    """Make a rule that stands in no policy yet.

    Raises:
        BadRequest: the values contradict each other.
        AddressGroupNotFound, FirewallGroupNotFound: what it names as an address is not there, or not for it.
        OverQuota: the project has as many as it may have.
        FirewallRulePassAdminOnly: its action is ``pass``, and the caller is no admin.
    """
    check_pass(context, values.action)
    project_id = project_of(context, values)
    check_quota(session, context, FirewallRule, project_id)
    check_addresses(session, context, project_id, values)
    row = add(session, context, FirewallRule, values)
    _check(row)
    name_groups(session, _firewall_groups(row))
    return RuleView(row=row, policy_ids=())


def find_rule(session: Session, context: Context, rule_id: str) -> FirewallRule:
    """The rule as it is stored.

    Raises:
        FirewallRuleNotFound: there is none that the caller sees.
    """
    return find(session, context, FirewallRule, rule_id, FirewallRuleNotFound)


def get_rule(session: Session, context: Context, rule_id: str) -> RuleView:
    """The rule.

    Raises:
        FirewallRuleNotFound: there is none that the caller sees.
    """
    return _views(session, context, [find_rule(session, context, rule_id)])[0]


def list_rules(session: Session, context: Context, page: Page = ALL) -> list[RuleView]:
    """The rules on the page; three statements."""
    return _views(session, context, listed(session, context, FirewallRule, page))


def update_rule(session: Session, context: Context, rule_id: str, values: RuleValues) -> RuleView:
    """Change the rule, wherever it stands.

    Raises:
        FirewallRuleNotFound: there is none that the caller sees.
        BadRequest: the values, with those that stay, contradict each other.
        AddressGroupNotFound, FirewallGroupNotFound: what it names as an address is not there, or not for it.
        FirewallRuleInUse: it would no longer be shared, and others use it.
        FirewallDefaultObjectUpdateRestricted: a default rule, or one in a default policy, and the caller is no admin.
        FirewallObjectGuarded: an admin or baseline group uses it, and the caller is no admin.
        FirewallRulePassAdminOnly: its action is to be ``pass``, and the caller is no admin.
        FirewallGroupUsesForeign, FirewallRulePassMisplaced: groups that use it may not use what it would become.
    """
    row = find_rule(session, context, rule_id)
    refuse_guarded(session, context, row)
    check_pass(context, values.action)
    protect_values(row, context, values)
    places = _places(session, [row.id])
    was_enabled, named_before = row.enabled, _firewall_groups(row)
    with session.no_autoflush:
        changed = assign(row, values)
        if changed:
            protect_places(context, places)
            _check(row)
            check_addresses(session, context, row.project_id, row)
    if changed:
        if "shared" in changed and not row.shared:
            check_rule_unsharing(row, places)
        touch(row, context)
        session.flush()
        named = _firewall_groups(row)
        name_groups(session, [id_ for id_ in named if id_ not in named_before])
        unname_groups(session, [id_ for id_ in named_before if id_ not in named])
        if places and changed & JUDGED:
            check_strata(session, applying(place.policy_id for place in places))
        _note_change(session, context, [place.policy_id for place in places], changed, was_enabled or row.enabled)
    return _views(session, context, [row], places)[0]


def delete_rule(session: Session, context: Context, rule_id: str) -> None:
    """Delete the rule.

    Raises:
        FirewallRuleNotFound: there is none that the caller sees.
        FirewallRuleInUse: it stands in a policy.
        FirewallDefaultObjectUpdateRestricted: a default rule, and the caller is no admin.
        FirewallObjectGuarded: an admin or baseline group uses it, and the caller is no admin.
    """
    row = find_rule(session, context, rule_id)
    refuse_guarded(session, context, row)
    protect(row, context)
    if session.scalar(select(PolicyRule.policy_id).where(PolicyRule.rule_id == row.id).limit(1)):
        raise FirewallRuleInUse(rule_id)
    named = _firewall_groups(row)
    delete_rows(session, FirewallRule, [row.id])
    unname_groups(session, named)


def in_policies(policy_ids: Iterable[str], context: Context) -> ColumnElement[bool]:
    """Condition on rules: to stand in one of these policies, as far as the caller sees them."""
    places = select(PolicyRule.rule_id).join(FirewallPolicy, FirewallPolicy.id == PolicyRule.policy_id)
    seen = places.where(FirewallPolicy.id.in_(policy_ids), *visible(context, FirewallPolicy))
    return FirewallRule.id.in_(seen)


def _note_change(
    session: Session, context: Context, policy_ids: Sequence[str], changed: set[str], takes_part: bool
) -> None:
    """Tell the policies in which the rule stands: somebody has to look at them again, and hosts perhaps too."""
    if not policy_ids:
        return
    session.execute(
        update(FirewallPolicy)
        .where(FirewallPolicy.id.in_(policy_ids), FirewallPolicy.audited)
        .values(audited=False, revision_number=FirewallPolicy.revision_number + 1, updated_at=context.now)
    )
    if changed & _DECIDING and takes_part:
        decisions_changed(session, context, policy_ids)


def _views(
    session: Session, context: Context, rows: Sequence[FirewallRule], places: Sequence[Any] | None = None
) -> list[RuleView]:
    ids = [row.id for row in rows]
    tags = tags_of(session, ids)
    policies: dict[str, list[str]] = {}
    for place in _places(session, ids) if places is None else places:
        if may_see(context, place.project_id, shared=place.shared):
            policies.setdefault(place.rule_id, []).append(place.policy_id)
    return [RuleView(row=row, policy_ids=tuple(policies.get(row.id, ())), tags=tags.get(row.id, ())) for row in rows]


def _places(session: Session, rule_ids: Sequence[str]) -> list[Any]:
    """Where the rules stand: ``rule_id``, and of each policy its id, project, and whether it is shared or a default."""
    query = (
        select(
            PolicyRule.rule_id,
            PolicyRule.policy_id,
            FirewallPolicy.project_id,
            FirewallPolicy.shared,
            FirewallPolicy.default_of,
        )
        .join(FirewallPolicy, FirewallPolicy.id == PolicyRule.policy_id)
        .order_by(PolicyRule.policy_id)
    )
    return select_in(session, query, PolicyRule.rule_id, rule_ids)


def _firewall_groups(row: FirewallRule) -> list[str]:
    """The firewall groups that the rule names as addresses."""
    named = (row.source_firewall_group_id, row.destination_firewall_group_id)
    return list(dict.fromkeys(id_ for id_ in named if id_ is not None))


def _check(row: FirewallRule) -> None:
    for side in _SIDES:
        ways = (f"{side}_ip_address", f"{side}_address_group_id", f"{side}_firewall_group_id")
        if sum(getattr(row, way) is not None for way in ways) > 1:
            raise FirewallRuleAddressConflict(side)
    if row.icmp_type is not None and row.protocol not in _ICMP:
        raise FirewallRuleIcmpConflict
    if row.icmp_code is not None and row.icmp_type is None:
        raise FirewallRuleIcmpConflict
    if row.source_port or row.destination_port:
        if row.protocol is None:
            raise FirewallRuleWithPortWithoutProtocolInvalid
        if row.protocol not in _PROTOCOLS_WITH_PORTS:
            raise FirewallRuleInvalidICMPParameter("ICMP" if "icmp" in row.protocol else row.protocol)
    if row.ip_version == 4 and row.protocol == "ipv6-icmp":
        raise FirewallIpAddressConflict
    for address in (row.source_ip_address, row.destination_ip_address):
        if address is not None and ip_network(address, strict=False).version != row.ip_version:
            raise FirewallIpAddressConflict
