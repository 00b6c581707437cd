"""Which ports a group covers of itself: none (``ports``), those of some projects (``projects``), or ``all``.

Whatever the scope, what is covered stands in the table of groups' ports; so nobody else has to know of scopes. Only
groups that admins assign have another than ``ports``, because a port is in one tenant group at most.
"""

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import and_, delete, insert, or_, select
from sqlalchemy.orm import Session

from portward.model import Stratum, port_kind
from portward.service.errors import (
    FirewallGroupPortsByScope,
    FirewallGroupScopeWithoutProjects,
    FirewallGroupTenantScope,
)
from portward.service.rows import select_in
from portward.store.tables import FirewallGroup, GroupProject, Port


class Scope(StrEnum):
    """How the ports of a group are named."""

    PORTS = "ports"  # one by one
    PROJECTS = "projects"  # all routers' and VMs' ports of some projects, now and later
    ALL = "all"  # all routers' and VMs' ports, now and later


def check_scope(group: FirewallGroup, projects: Iterable[str], *, names_ports: bool) -> None:
    """Refuse a scope that contradicts what the group is, or what the same request says.

    ``projects`` are those that the group is to have, ``names_ports`` whether the request says which ports it covers.

    Raises:
        FirewallGroupTenantScope: a tenant group with another scope than ``ports``.
        FirewallGroupScopeWithoutProjects: the scope is ``projects`` and there are none, or another and there are.
        FirewallGroupPortsByScope: ports are named, and the scope names them.
    """
    if group.scope != Scope.PORTS and group.stratum == Stratum.TENANT:
        raise FirewallGroupTenantScope
    if (group.scope == Scope.PROJECTS) != bool(tuple(projects)):
        raise FirewallGroupScopeWithoutProjects
    if group.scope != Scope.PORTS and names_ports:
        raise FirewallGroupPortsByScope(group.scope)


def projects_of(session: Session, groups: Iterable[FirewallGroup]) -> dict[str, tuple[str, ...]]:
    """The projects of each of the groups that has any, sorted; one statement, none if no group is of that scope."""
    found: dict[str, list[str]] = {}
    query = select(GroupProject.group_id, GroupProject.project_id)
    ids = [group.id for group in groups if group.scope == Scope.PROJECTS]
    for group_id, project_id in select_in(session, query, GroupProject.group_id, ids):
        found.setdefault(group_id, []).append(project_id)
    return {group_id: tuple(sorted(projects)) for group_id, projects in found.items()}


def store_projects(session: Session, group_id: str, projects: Iterable[str]) -> None:
    """Let the group be about these projects and no others."""
    session.execute(delete(GroupProject).where(GroupProject.group_id == group_id))
    if rows := [{"group_id": group_id, "project_id": project_id} for project_id in projects]:
        session.execute(insert(GroupProject), rows)


def ports_in(session: Session, group: FirewallGroup, projects: Iterable[str]) -> tuple[str, ...]:
    """The ports that the group, of these projects if its scope is ``projects``, is to cover; by id."""
    query = select(Port.id, Port.device_owner).order_by(Port.id)
    if group.scope == Scope.PROJECTS:
        found = select_in(session, query, Port.project_id, projects)
    else:
        found = list(session.execute(query).all())
    return tuple(port.id for port in found if port_kind(port.device_owner) is not None)


def groups_over(session: Session, port: Port) -> set[str]:
    """The groups that by their scope are to cover the port."""
    if port_kind(port.device_owner) is None:
        return set()
    of_project = select(GroupProject.group_id).where(GroupProject.project_id == port.project_id)
    by_project = and_(FirewallGroup.scope == Scope.PROJECTS.value, FirewallGroup.id.in_(of_project))
    query = select(FirewallGroup.id).where(or_(FirewallGroup.scope == Scope.ALL.value, by_project))
    return set(session.scalars(query))
