"""Address sets: what rules may name as an address, by the id of an address group or of a firewall group.

Whichever of the two it is, the members stand in one table, with the generation at which each came or went: so what an
agent lacks since any version can be told member by member. A firewall group has a set as long as a rule names it; its
members are the addresses of the VM ports that it covers, and their address pairs. Refused here: judging who may name
or change what.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from ipaddress import ip_network
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from portward.channel.messages import SetChange, fingerprint
from portward.model import PortKind, port_kind
from portward.service.context import Context
from portward.service.rows import batches, select_in
from portward.store import raise_generation
from portward.store.tables import (
    AddressSet,
    AddressSetMember,
    FirewallGroup,
    FirewallPolicy,
    FirewallRule,
    GroupPort,
    PolicyRule,
    Port,
)

#: The widest address pairs that are members: a VM that may send from anywhere must not make a rule about everything.
_WIDEST = {4: 16, 6: 48}
#: Members that went and are still told one by one; with more, agents get the whole set.
_REMEMBERED = 1000
_GROUPS = (FirewallRule.source_firewall_group_id, FirewallRule.destination_firewall_group_id)
#: The columns by which a rule names a set.
NAMES = (FirewallRule.source_address_group_id, FirewallRule.destination_address_group_id, *_GROUPS)


def members_of(session: Session, set_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The members of each of the sets that has any, sorted as text; one statement for each 10,000 sets."""
    query = select(AddressSetMember.set_id, AddressSetMember.address).where(AddressSetMember.removed.is_(None))
    found: dict[str, list[str]] = defaultdict(list)
    for row in select_in(session, query.order_by(AddressSetMember.address), AddressSetMember.set_id, set_ids):
        found[row.set_id].append(row.address)
    return {set_id: tuple(addresses) for set_id, addresses in found.items()}


def create_set(session: Session, set_id: str, addresses: Iterable[str]) -> None:
    """Make the set, of these canonical prefixes, none twice; no rule names it yet."""
    session.execute(insert(AddressSet).values(id=set_id, version=0, logged_since=0, fingerprint=_hex(0)))
    _change(session, set_id, added=list(addresses), removed=[])
    session.execute(update(AddressSet).where(AddressSet.id == set_id).values(logged_since=AddressSet.version))


def change_set(
    session: Session, context: Context, set_id: str, *, added: Collection[str], removed: Collection[str]
) -> None:
    """Let ``added``, which are no members, be members of the set, and ``removed``, which are, not any more.

    The groups that decide by it decide differently from now on.
    """
    if added or removed:
        _change(session, set_id, added=added, removed=removed)
        _mark_users(session, context, [set_id])


def delete_set(session: Session, set_id: str) -> None:
    """Forget the set, which no rule names."""
    session.execute(delete(AddressSetMember).where(AddressSetMember.set_id == set_id))
    session.execute(delete(AddressSet).where(AddressSet.id == set_id))


def name_groups(session: Session, group_ids: Collection[str]) -> None:
    """Have each of these firewall groups, which a rule names from now on, be a set."""
    there = set(session.scalars(select(AddressSet.id).where(AddressSet.id.in_(group_ids))))
    for group_id, addresses in _addresses(session, [id_ for id_ in group_ids if id_ not in there]).items():
        create_set(session, group_id, sorted(addresses))


def unname_groups(session: Session, group_ids: Collection[str]) -> None:
    """Forget the sets of those of these firewall groups that no rule names any more."""
    for group_id in group_ids:
        if session.scalar(select(FirewallRule.id).where(_named_by(_GROUPS, [group_id])).limit(1)) is None:
            delete_set(session, group_id)


def follow_ports(session: Session, context: Context, group_ids: Collection[str]) -> None:
    """Bring the sets of these firewall groups, whose ports or these ports' addresses may have changed, up to date.

    Costs one statement where no rule names any of them.
    """
    named = [row.id for row in select_in(session, select(AddressSet.id), AddressSet.id, group_ids)]
    if not named:
        return
    before = members_of(session, named)
    changed = []
    for group_id, addresses in _addresses(session, named).items():
        held = set(before.get(group_id, ()))
        if addresses != held:
            _change(session, group_id, added=sorted(addresses - held), removed=sorted(held - addresses))
            changed.append(group_id)
    if changed:
        _mark_users(session, context, changed)


class SetVersion(NamedTuple):
    """Which version of a set there is, and what it is told by."""

    version: int
    logged_since: int
    fingerprint: int


def versions_of(session: Session, set_ids: Collection[str]) -> dict[str, SetVersion]:
    """The version of each of these sets that is there; one statement."""
    query = select(AddressSet.id, AddressSet.version, AddressSet.logged_since, AddressSet.fingerprint)
    return {
        row.id: SetVersion(row.version, row.logged_since, int(row.fingerprint, 16))
        for row in select_in(session, query, AddressSet.id, set_ids)
    }


def changes_since(session: Session, versions: dict[str, SetVersion], held: dict[str, int]) -> tuple[SetChange, ...]:
    """What an agent that holds the versions ``held`` lacks of ``versions``; one statement."""
    since = {
        id_: held[id_] if now.logged_since <= held.get(id_, -1) <= now.version else 0
        for id_, now in versions.items()
        if held.get(id_) != now.version
    }
    if not since:
        return ()
    member = AddressSetMember
    wanted = [
        and_(member.set_id == id_, or_(member.added > version, member.removed > version))
        if version
        else and_(member.set_id == id_, member.removed.is_(None))
        for id_, version in since.items()
    ]
    added: dict[str, list[str]] = defaultdict(list)
    removed: dict[str, list[str]] = defaultdict(list)
    query = select(member.set_id, member.address, member.removed).where(or_(*wanted)).order_by(member.address)
    for row in session.execute(query):
        (added if row.removed is None else removed)[row.set_id].append(row.address)
    return tuple(
        SetChange(
            id=id_,
            version=versions[id_].version,
            since=version,
            added=tuple(added[id_]),
            removed=tuple(removed[id_]),
        )
        for id_, version in since.items()
    )


def _change(session: Session, set_id: str, *, added: Collection[str], removed: Collection[str]) -> None:
    generation = raise_generation(session)
    member = AddressSetMember
    number = int(session.scalar(select(AddressSet.fingerprint).where(AddressSet.id == set_id)) or "0", 16)
    for batch in batches(removed):
        gone = (member.set_id == set_id, member.address.in_(batch))
        session.execute(update(member).where(*gone).values(removed=generation))
    for batch in batches(added):
        session.execute(delete(member).where(member.set_id == set_id, member.address.in_(batch)))
        rows = [{"set_id": set_id, "address": address, "added": generation, "removed": None} for address in batch]
        session.execute(insert(member), rows)
    values = {"version": generation, "fingerprint": _hex(fingerprint(added, number, less=removed))}
    gone_rows = (member.set_id == set_id, member.removed.is_not(None))
    if (session.scalar(select(func.count()).select_from(member).where(*gone_rows)) or 0) > _REMEMBERED:
        session.execute(delete(member).where(*gone_rows))
        values["logged_since"] = generation
    session.execute(update(AddressSet).where(AddressSet.id == set_id).values(**values))


def _mark_users(session: Session, context: Context, set_ids: Collection[str]) -> None:
    """The groups that decide by these sets, by way of rules and policies, owe a report about them."""
    places = (
        select(PolicyRule.policy_id)
        .join(FirewallRule, FirewallRule.id == PolicyRule.rule_id)
        .where(_named_by(NAMES, set_ids), FirewallRule.enabled)
    )
    group = FirewallGroup
    session.execute(
        update(group)
        .where(or_(group.ingress_firewall_policy_id.in_(places), group.egress_firewall_policy_id.in_(places)))
        .values(generation=raise_generation(session), changed_at=context.now)
        .execution_options(synchronize_session=False)
    )


def policies_naming(set_ids: Collection[str]) -> Any:
    """Condition on policies: a rule of it names one of these sets."""
    places = (
        select(PolicyRule.policy_id)
        .join(FirewallRule, FirewallRule.id == PolicyRule.rule_id)
        .where(_named_by(NAMES, set_ids))
    )
    return FirewallPolicy.id.in_(places)


def _named_by(columns: Iterable[Any], set_ids: Collection[str]) -> Any:
    return or_(*(column.in_(set_ids) for column in columns))


def _addresses(session: Session, group_ids: Collection[str]) -> dict[str, set[str]]:
    """The addresses of the VM ports of each of these firewall groups, and their address pairs; one statement."""
    found: dict[str, set[str]] = {group_id: set() for group_id in group_ids}
    query = select(GroupPort.group_id, Port.device_owner, Port.fixed_ips, Port.allowed_address_pairs)
    for row in select_in(session, query.join(Port, Port.id == GroupPort.port_id), GroupPort.group_id, group_ids):
        if port_kind(row.device_owner) is PortKind.VM:
            for given in (*row.fixed_ips, *row.allowed_address_pairs):
                prefix = ip_network(given["ip_address"], strict=False)
                if prefix.prefixlen >= _WIDEST[prefix.version]:
                    found[row.group_id].add(str(prefix))
    return found


def _hex(number: int) -> str:
    return f"{number:064x}"
