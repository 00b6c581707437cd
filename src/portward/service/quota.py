"""How many rules, policies, groups and address groups a project may have.

Its default ones count, and are themselves never refused.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from portward.service.context import Context
from portward.service.errors import OverQuota
from portward.store.tables import AddressGroup, FirewallGroup, FirewallPolicy, FirewallRule

_NAMES = {
    FirewallRule: "firewall_rule",
    FirewallPolicy: "firewall_policy",
    FirewallGroup: "firewall_group",
    AddressGroup: "address_group",
}


def check_quota(
    session: Session,
    context: Context,
    table: type[FirewallRule] | type[FirewallPolicy] | type[FirewallGroup] | type[AddressGroup],
    project_id: str,
) -> None:
    """Refuse one more row of ``table`` in the project, whoever asks for it.

    Raises:
        OverQuota: it has as many as it may have.
    """
    resource = _NAMES[table]
    own = context.quotas.projects.get(project_id)
    limit = getattr(own, resource) if own is not None else None
    if limit is None:
        limit = getattr(context.quotas, resource)
    if limit < 0:
        return
    number = session.scalar(select(func.count()).select_from(table).where(table.project_id == project_id))
    if (number or 0) >= limit:
        raise OverQuota(resource)
