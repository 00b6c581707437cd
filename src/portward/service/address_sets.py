"""Address sets: what rules may name as an address, by the id of an address group or of a firewall group.

Whichever of the two it is, the members stand in one table, with the generation at which each came or went: so what an
agent lacks since any version can be told member by member. A firewall group has a set as long as a rule names it; its
members are the addresses of the VM ports that it covers, and their address pairs. Refused here: judging who may name
or change what.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_network
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, exists, insert, or_, select, update
from sqlalchemy.orm import Session

from portward.channel.messages import SetChange, fingerprint
from portward.model import PortKind, port_kind
from portward.service.context import Context
from portward.service.rows import BATCH, select_in
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
#: Sets, or members of more than one, in one statement: SQLite takes no condition of more than 1,000 parts.
_TERMS = 500
#: The columns by which a rule names a firewall group as an address.
GROUPS = (FirewallRule.source_firewall_group_id, FirewallRule.destination_firewall_group_id)
#: The columns by which a rule names a set.
NAMES = (FirewallRule.source_address_group_id, FirewallRule.destination_address_group_id, *GROUPS)


def members_of(session: Session, set_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The members of each of the sets that has any, sorted as text; one statement for each 10,000 sets."""
    query = select(AddressSetMember.set_id, AddressSetMember.address).where(AddressSetMember.removed.is_(None))
    found: dict[str, list[str]] = defaultdict(list)
    for set_id, address in select_in(
        session, query.order_by(AddressSetMember.address), AddressSetMember.set_id, set_ids
    ):
        found[set_id].append(address)
    return {set_id: tuple(addresses) for set_id, addresses in found.items()}


def create_set(session: Session, set_id: str, addresses: Iterable[str]) -> None:
    """Make the set, of these canonical prefixes, none twice; no rule names it yet."""
    addresses, generation = list(addresses), raise_generation(session)
    values = {"version": generation, "logged_since": generation, "fingerprint": _hex(fingerprint(addresses))}
    session.execute(insert(AddressSet).values(id=set_id, **values))
    _insert(session, generation, {set_id: addresses})


def change_set(
    session: Session, context: Context, set_id: str, *, added: Collection[str], removed: Collection[str]
) -> None:
    """Let ``added``, which are no members, be members of the set, and ``removed``, which are, not any more.

    The groups that decide by it decide differently from now on.
    """
    _change(session, context, _logs(session, [set_id]), {set_id: _Change(added, removed)})


def delete_set(session: Session, set_id: str) -> None:
    """Forget the set, which no rule names."""
    _forget(session, [set_id])


def name_groups(session: Session, group_ids: Collection[str]) -> None:
    """Have each of these firewall groups, which a rule names from now on, be a set."""
    there = set(session.scalars(select(AddressSet.id).where(AddressSet.id.in_(group_ids))))
    for group_id, addresses in _addresses(session, [id_ for id_ in group_ids if id_ not in there]).items():
        create_set(session, group_id, sorted(addresses))


def unname_groups(session: Session, group_ids: Collection[str]) -> None:
    """Forget the sets of those of these firewall groups that no rule names any more."""
    if group_ids:
        named = exists().where(or_(*(column == AddressSet.id for column in GROUPS)))
        _forget(session, session.scalars(select(AddressSet.id).where(AddressSet.id.in_(group_ids), ~named)).all())


def follow_ports(session: Session, context: Context, group_ids: Collection[str]) -> None:
    """Bring the sets of these firewall groups, whose ports or these ports' addresses may have changed, up to date.

    Costs one statement where no rule names any of them, and at most eight where rules do.
    """
    logs = _logs(session, group_ids)
    if logs:
        before = members_of(session, logs)
        changes = {}
        for group_id, addresses in _addresses(session, logs).items():
            held = set(before.get(group_id, ()))
            changes[group_id] = _Change(sorted(addresses - held), sorted(held - addresses))
        _change(session, context, logs, changes)


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
    """What an agent that holds the versions ``held`` lacks of ``versions``; one statement for each 500 sets."""
    since = {
        id_: held[id_] if now.logged_since <= held.get(id_, -1) <= now.version else 0
        for id_, now in versions.items()
        if held.get(id_) != now.version
    }
    if not since:
        return ()
    member, wanted = AddressSetMember, list(since.items())
    added: dict[str, list[str]] = defaultdict(list)
    removed: dict[str, list[str]] = defaultdict(list)
    for start in range(0, len(wanted), _TERMS):
        lacking = or_(
            *(
                and_(
                    member.set_id == id_,
                    or_(member.added > version, member.removed > version) if version else member.removed.is_(None),
                )
                for id_, version in wanted[start : start + _TERMS]
            )
        )
        query = select(member.set_id, member.address, member.removed).where(lacking).order_by(member.address)
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


def _forget(session: Session, set_ids: Collection[str]) -> None:
    if set_ids:
        session.execute(delete(AddressSetMember).where(AddressSetMember.set_id.in_(set_ids)))
        session.execute(delete(AddressSet).where(AddressSet.id.in_(set_ids)))


class _Log(NamedTuple):
    """What a set is told by. ``gone`` are members that went and are remembered."""

    logged_since: int
    fingerprint: int
    gone: set[str]


class _Change(NamedTuple):
    """``added`` are no members of a set, ``removed`` are."""

    added: Collection[str]
    removed: Collection[str]


def _logs(session: Session, set_ids: Iterable[str]) -> dict[str, _Log]:
    """Those of the sets that are there; one statement for each 10,000."""
    member = AddressSetMember
    gone = and_(member.set_id == AddressSet.id, member.removed.is_not(None))
    query = select(AddressSet.id, AddressSet.logged_since, AddressSet.fingerprint, member.address)
    found: dict[str, _Log] = {}
    for row in select_in(session, query.outerjoin(member, gone), AddressSet.id, set_ids):
        log = found.setdefault(row.id, _Log(row.logged_since, int(row.fingerprint, 16), set()))
        if row.address is not None:
            log.gone.add(row.address)
    return found


def _change(session: Session, context: Context, logs: Mapping[str, _Log], changes: Mapping[str, _Change]) -> None:
    """Store the changes that are any, and tell whom they concern; six statements for any number of sets."""
    changes = {id_: change for id_, change in changes.items() if change.added or change.removed}
    if not changes:
        return
    generation = raise_generation(session)
    left, dropped, sets = {}, {}, []
    for id_, (added, removed) in changes.items():
        log = logs[id_]
        forget = len((log.gone | set(removed)).difference(added)) > _REMEMBERED
        left[id_] = () if forget else removed
        dropped[id_] = log.gone | set(removed) if forget else log.gone.intersection(added)
        since = generation if forget else log.logged_since
        number = _hex(fingerprint(added, log.fingerprint, less=removed))
        sets.append({"id": id_, "version": generation, "logged_since": since, "fingerprint": number})
    for members in _each(left):
        session.execute(update(AddressSetMember).where(members).values(removed=generation))
    for members in _each(dropped):
        session.execute(delete(AddressSetMember).where(members))
    _insert(session, generation, {id_: change.added for id_, change in changes.items()})
    session.execute(update(AddressSet), sets)
    _mark_users(session, context, changes)


def _insert(session: Session, generation: int, addresses: Mapping[str, Collection[str]]) -> None:
    rows = [
        {"set_id": id_, "address": address, "added": generation, "removed": None}
        for id_, some in addresses.items()
        for address in some
    ]
    if rows:
        session.execute(insert(AddressSetMember), rows)


def _each(addresses: Mapping[str, Collection[str]]) -> Iterator[ColumnElement[bool]]:
    """Conditions that together hold of these members of these sets; one, unless they are many."""
    pairs = [(id_, address) for id_, some in addresses.items() for address in some]
    size = _TERMS if len({id_ for id_, _ in pairs}) > 1 else BATCH
    for start in range(0, len(pairs), size):
        by_set = groupby(pairs[start : start + size], key=lambda pair: pair[0])
        yield or_(
            *(
                and_(AddressSetMember.set_id == id_, AddressSetMember.address.in_([address for _, address in some]))
                for id_, some in by_set
            )
        )


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
