"""Firewall groups: which policies decide for which ports.

A group without ports concerns no host, so its changes raise nothing; its bit ``realised_once`` starts anew when its
last port leaves. Which ports it may cover, and where they come from and go, is ``membership``'s.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from portward.model import Stratum
from portward.service.changes import group_changed, ports_moved
from portward.service.context import Context
from portward.service.default_group import check_name, delete_default, protect_values
from portward.service.errors import FirewallGroupCannotRemoveDefault, FirewallGroupInUse, FirewallGroupNotFound
from portward.service.membership import ports_of, replace_ports
from portward.service.quota import check_quota
from portward.service.rows import ALL, Page, add, assign, delete_rows, find, listed, project_of, touch
from portward.service.scopes import Scope, check_scope, ports_in, projects_of, store_projects
from portward.service.sharing import check_address_unsharing, check_policies, refuse_named
from portward.service.status import Realisation, Status, group_statuses, realisation
from portward.service.status import status_of as status_of
from portward.service.status import with_status as with_status
from portward.service.strata import check_strata, naming, refuse_guarded
from portward.service.tags import tags_of
from portward.store.tables import FirewallGroup, GroupPort

#: What decides packets, beside the ports.
_DECIDING = frozenset(
    {"stratum", "position", "admin_state_up", "ingress_firewall_policy_id", "egress_firewall_policy_id"}
)
#: What decides which policies and rules it may use.
_JUDGED = frozenset({"stratum", "ingress_firewall_policy_id", "egress_firewall_policy_id"})


class GroupValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a new group, or changes of one; what is ``UNSET`` takes its default, or stays."""

    project_id: str | UnsetType = UNSET  # of a new group only
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    stratum: str | UnsetType = UNSET
    position: int | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    project_ids: tuple[str, ...] | UnsetType = UNSET  # of the scope ``projects``, none twice
    admin_state_up: bool | UnsetType = UNSET
    ingress_firewall_policy_id: str | UnsetType | None = UNSET
    egress_firewall_policy_id: str | UnsetType | None = UNSET
    ports: tuple[str, ...] | UnsetType = UNSET  # ids of ports, none twice


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group, its ports as the user ordered them, the projects of its scope, and how far the hosts are."""

    row: FirewallGroup
    port_ids: tuple[str, ...]
    project_ids: tuple[str, ...] = ()
    status: Status
    tags: tuple[str, ...] = ()


def create_group(session: Session, context: Context, values: GroupValues) -> GroupView:
    """Make a group.

    Raises:
        FirewallDefaultParameterExists: its name is reserved.
        OverQuota: the project has as many as it may have.
        FirewallPolicyNotFound, PortNotFound: what it names is not there, or not for it.
        FirewallGroupPortInvalid, FirewallGroupPortInUse: a port that it may not have.
        BadRequest: stratum, scope, projects and ports contradict each other.
        FirewallGroupUsesForeign, FirewallRulePassMisplaced: a group of its stratum may not apply such policies.
    """
    check_name(FirewallGroup, values)
    project_id = project_of(context, values)
    check_quota(session, context, FirewallGroup, project_id)
    check_policies(session, context, project_id, _policies(values), may_pass=values.stratum == Stratum.ADMIN)
    row = add(session, context, FirewallGroup, values)
    projects = values.project_ids or ()
    check_scope(row, projects, names_ports=bool(values.ports))
    if projects:
        store_projects(session, row.id, projects)
    port_ids = ports_in(session, row, projects) if row.scope != Scope.PORTS else values.ports or ()
    if port_ids:
        port_ids = replace_ports(session, context, row, (), port_ids, was_tenant=False)
        group_changed(session, context, row)
    if row.stratum != Stratum.TENANT and _policies(values):
        check_strata(session, FirewallGroup.id == row.id)
    return _views(session, context, [row], {row.id: port_ids})[0]


def find_group(session: Session, context: Context, group_id: str) -> FirewallGroup:
    """The group as it is stored.

    Raises:
        FirewallGroupNotFound: there is none that the caller sees.
    """
    return find(session, context, FirewallGroup, group_id, FirewallGroupNotFound)


def get_group(session: Session, context: Context, group_id: str) -> GroupView:
    """The group.

    Raises:
        FirewallGroupNotFound: there is none that the caller sees.
    """
    return _views(session, context, [find_group(session, context, group_id)])[0]


def list_groups(session: Session, context: Context, page: Page = ALL) -> list[GroupView]:
    """The groups on the page; five statements at most."""
    return _views(session, context, listed(session, context, FirewallGroup, page))


def update_group(session: Session, context: Context, group_id: str, values: GroupValues) -> GroupView:
    """Change the group, at any time and whatever its status; what the hosts have not yet done is superseded.

    Raises:
        FirewallGroupNotFound: there is none that the caller sees.
        FirewallDefaultObjectUpdateRestricted: of a default group, something that the caller may not change.
        FirewallDefaultParameterExists: its new name is reserved.
        FirewallPolicyNotFound, PortNotFound: what it names is not there, or not for it.
        FirewallGroupPortInvalid, FirewallGroupPortInUse: a port that it may not have.
        FirewallObjectGuarded: an admin or baseline group, and the caller is no admin.
        BadRequest: stratum, scope, projects and ports, with those that stay, contradict each other.
        FirewallGroupUsesForeign, FirewallRulePassMisplaced: a group of its stratum may not apply such policies, or
            its stratum is to be ``tenant``, and an admin or baseline group names it as an address.
    """
    row = find_group(session, context, group_id)
    refuse_guarded(session, context, row)
    protect_values(row, context, values)
    check_name(FirewallGroup, values, row)
    stratum = row.stratum if values.stratum is UNSET else values.stratum
    check_policies(session, context, row.project_id, _policies(values), may_pass=stratum == Stratum.ADMIN)
    old = ports_of(session, [row.id]).get(row.id, ())
    was_tenant = row.stratum == Stratum.TENANT
    with session.no_autoflush:  # one UPDATE of the row is enough, unless ports move by what it becomes
        changed, wanted = _assign(session, row, values)
        if "stratum" in changed:
            session.flush()
        new = old
        if wanted is not None or "stratum" in changed:
            new = replace_ports(session, context, row, old, old if wanted is None else wanted, was_tenant=was_tenant)
        if not new:
            row.realised_once = False
        if changed or new != old:
            touch(row, context)
        if (changed & _DECIDING and new) or set(new) != set(old):
            group_changed(session, context, row)
        if "shared" in changed and not row.shared:
            check_address_unsharing(session, context, row)
    session.flush()
    if "stratum" in changed or (changed & _JUDGED and row.stratum != Stratum.TENANT):
        judged = FirewallGroup.id == row.id
        check_strata(session, or_(judged, naming(row.id)) if "stratum" in changed else judged)
    return _views(session, context, [row], {row.id: new})[0]


def delete_group(session: Session, context: Context, group_id: str) -> None:
    """Delete the group; a default one with its policies and rules, one whose scope names its ports with them in it.

    Raises:
        FirewallGroupNotFound: there is none that the caller sees.
        FirewallGroupCannotRemoveDefault: a default group, and the caller is no admin.
        FirewallGroupInUse: it covers ports that somebody named.
        FirewallGroupNamed: rules name it as an address.
        FirewallPolicyInUse, FirewallRuleInUse: something of a default group is used elsewhere.
        FirewallObjectGuarded: an admin or baseline group, and the caller is no admin.
    """
    row = find_group(session, context, group_id)
    refuse_guarded(session, context, row)
    if row.default_of is not None and not context.is_admin:
        raise FirewallGroupCannotRemoveDefault
    refuse_named(session, context, row)
    if session.scalar(select(GroupPort.port_id).where(GroupPort.group_id == row.id).limit(1)):
        if row.scope == Scope.PORTS:
            raise FirewallGroupInUse(group_id)
        ports_moved(session, context, [row.id])
    if row.default_of is not None:
        delete_default(session, row)
    else:
        delete_rows(session, FirewallGroup, [row.id])


def group_realisation(session: Session, context: Context, group_id: str) -> Realisation:
    """Who has realised the group and who has not, and why; the names of hosts are for admins.

    Raises:
        FirewallGroupNotFound: there is none that the caller sees.
    """
    found = realisation(session, find_group(session, context, group_id).id, context.now)
    if context.is_admin:
        return found
    ports = tuple(msgspec.structs.replace(port, host=None) for port in found.ports)
    return msgspec.structs.replace(found, ports=ports)


def with_ports(port_ids: Iterable[str]) -> ColumnElement[bool]:
    """Condition on groups: to cover one of these ports."""
    return FirewallGroup.id.in_(select(GroupPort.group_id).where(GroupPort.port_id.in_(port_ids)))


def _assign(session: Session, row: FirewallGroup, values: GroupValues) -> tuple[set[str], tuple[str, ...] | None]:
    """Give the group the values, the ports apart.

    Returns the names of those that were different, and the ports that it is to cover, ``None``: those that it does.
    """
    old = projects_of(session, [row]).get(row.id, ())
    changed = assign(row, values)
    staying = old if row.scope == Scope.PROJECTS else ()
    projects = staying if values.project_ids is UNSET else tuple(sorted(values.project_ids))
    check_scope(row, projects, names_ports=values.ports is not UNSET)
    if projects != old:
        store_projects(session, row.id, projects)
        changed.add("project_ids")
    if row.scope != Scope.PORTS:
        return changed, ports_in(session, row, projects) if changed & {"scope", "project_ids"} else None
    return changed, None if values.ports is UNSET else values.ports


def _policies(values: GroupValues) -> list[str]:
    wanted = (values.ingress_firewall_policy_id, values.egress_firewall_policy_id)
    return [policy_id for policy_id in wanted if isinstance(policy_id, str)]


def _views(
    session: Session,
    context: Context,
    rows: Sequence[FirewallGroup],
    ports: dict[str, tuple[str, ...]] | None = None,
) -> list[GroupView]:
    ids = [row.id for row in rows]
    covered = ports_of(session, ids) if ports is None else ports
    projects = projects_of(session, rows)
    # With whom an admin shares such a group, sees in it what concerns their own project.
    foreign = [row.id for row in rows if row.stratum != Stratum.TENANT and not _is_own(row, context)]
    if foreign:
        covered |= dict.fromkeys(foreign, ()) | ports_of(session, foreign, project_id=context.project_id)
        projects |= {id_: tuple({context.project_id}.intersection(projects.get(id_, ()))) for id_ in foreign}
    status = group_statuses(session, ids, context.now)
    tags = tags_of(session, ids)
    return [
        GroupView(
            row=row,
            port_ids=covered.get(row.id, ()),
            project_ids=projects.get(row.id, ()),
            status=status[row.id],
            tags=tags.get(row.id, ()),
        )
        for row in rows
    ]


def _is_own(row: FirewallGroup, context: Context) -> bool:
    return context.is_admin or row.project_id == context.project_id
