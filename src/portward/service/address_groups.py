"""Address groups: named lists of prefixes of both IP versions, which rules may name as their source or destination.

Their wire form is Neutron's. What somebody adds or removes lets ``audited`` of every policy fall that uses the group,
and reaches the hosts as so many members, whatever the size of the group.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from portward.service.address_sets import change_set, create_set, delete_set, members_of, policies_naming
from portward.service.context import Context
from portward.service.errors import AddressesAlreadyExist, AddressesNotFound, AddressGroupFull, AddressGroupNotFound
from portward.service.quota import check_quota
from portward.service.rows import ALL, Page, add, assign, delete_rows, find, listed, project_of, touch
from portward.service.sharing import check_address_unsharing, refuse_named
from portward.service.strata import refuse_guarded
from portward.service.tags import tags_of
from portward.store.tables import AddressGroup, AddressSetMember, FirewallPolicy

#: Members of one group at most: each is held by every host that the group concerns, whoever owns the others there.
MAX_ADDRESSES = 20_000


class AddressGroupValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a new address group, or changes of one; what is ``UNSET`` takes its default, or stays."""

    project_id: str | UnsetType = UNSET  # of a new group only
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    addresses: tuple[str, ...] | UnsetType = UNSET  # canonical prefixes, none twice


class AddressGroupView(msgspec.Struct, frozen=True, kw_only=True):
    """An address group, and its members sorted as text."""

    row: AddressGroup
    addresses: tuple[str, ...]
    tags: tuple[str, ...] = ()


def create_address_group(session: Session, context: Context, values: AddressGroupValues) -> AddressGroupView:
    """Make an address group that no rule names yet.

    Raises:
        OverQuota: the project has as many as it may have.
    """
    check_quota(session, context, AddressGroup, project_of(context, values))
    row = add(session, context, AddressGroup, values)
    addresses = tuple(sorted(values.addresses or ()))
    create_set(session, row.id, addresses)
    return AddressGroupView(row=row, addresses=addresses)


def find_address_group(session: Session, context: Context, group_id: str) -> AddressGroup:
    """The address group as it is stored.

    Raises:
        AddressGroupNotFound: there is none that the caller sees.
    """
    return find(session, context, AddressGroup, group_id, AddressGroupNotFound)


def get_address_group(session: Session, context: Context, group_id: str) -> AddressGroupView:
    """The address group.

    Raises:
        AddressGroupNotFound: there is none that the caller sees.
    """
    return _views(session, [find_address_group(session, context, group_id)])[0]


def list_address_groups(session: Session, context: Context, page: Page = ALL) -> list[AddressGroupView]:
    """The address groups on the page; three statements."""
    return _views(session, listed(session, context, AddressGroup, page))


def update_address_group(
    session: Session, context: Context, group_id: str, values: AddressGroupValues
) -> AddressGroupView:
    """Change the address group, or replace its members.

    Raises:
        AddressGroupNotFound: there is none that the caller sees.
        AddressGroupInUse: it would no longer be shared, and rules of others name it.
        FirewallObjectGuarded: an admin or baseline group uses it, and the caller is no admin.
    """
    row = find_address_group(session, context, group_id)
    refuse_guarded(session, context, row)
    changed = assign(row, values)
    if "shared" in changed and not row.shared:
        check_address_unsharing(session, context, row)
    old = members_of(session, [row.id]).get(row.id, ())
    new = old if values.addresses is UNSET else values.addresses
    if changed or set(new) != set(old):
        touch(row, context)
        session.flush()
    return _replace(session, context, row, old, new)


def delete_address_group(session: Session, context: Context, group_id: str) -> None:
    """Delete the address group.

    Raises:
        AddressGroupNotFound: there is none that the caller sees.
        AddressGroupInUse: rules name it.
        FirewallObjectGuarded: an admin or baseline group uses it, and the caller is no admin.
    """
    row = find_address_group(session, context, group_id)
    refuse_guarded(session, context, row)
    refuse_named(session, context, row)
    delete_set(session, row.id)
    delete_rows(session, AddressGroup, [row.id])


def add_addresses(session: Session, context: Context, group_id: str, addresses: Sequence[str]) -> AddressGroupView:
    """Add these canonical prefixes, none twice, to the address group.

    Raises:
        AddressGroupNotFound: there is none that the caller sees.
        AddressesAlreadyExist: some of them are members.
        AddressGroupFull: they would be too many.
        FirewallObjectGuarded: an admin or baseline group uses it, and the caller is no admin.
    """
    row, old = _to_change(session, context, group_id, addresses)
    held = set(old)
    if there := [address for address in addresses if address in held]:
        raise AddressesAlreadyExist(there, group_id)
    if len(old) + len(addresses) > MAX_ADDRESSES:
        raise AddressGroupFull(group_id, MAX_ADDRESSES)
    return _replace(session, context, row, old, (*old, *addresses))


def remove_addresses(session: Session, context: Context, group_id: str, addresses: Sequence[str]) -> AddressGroupView:
    """Take these canonical prefixes out of the address group.

    Raises:
        AddressGroupNotFound: there is none that the caller sees.
        AddressesNotFound: some of them are no members.
        FirewallObjectGuarded: an admin or baseline group uses it, and the caller is no admin.
    """
    row, old = _to_change(session, context, group_id, addresses)
    held, gone = set(old), set(addresses)
    if lacking := [address for address in addresses if address not in held]:
        raise AddressesNotFound(lacking, group_id)
    return _replace(session, context, row, old, [address for address in old if address not in gone])


def with_addresses(addresses: Sequence[str]) -> ColumnElement[bool]:
    """Condition on address groups: one of these prefixes is a member."""
    holding = select(AddressSetMember.set_id).where(
        AddressSetMember.removed.is_(None), AddressSetMember.address.in_(addresses)
    )
    return AddressGroup.id.in_(holding)


def _to_change(
    session: Session, context: Context, group_id: str, addresses: Sequence[str]
) -> tuple[AddressGroup, tuple[str, ...]]:
    """The group, and its members before these come or go."""
    row = find_address_group(session, context, group_id)
    refuse_guarded(session, context, row)
    if addresses:
        touch(row, context)
        session.flush()
    return row, members_of(session, [row.id]).get(row.id, ())


def _replace(
    session: Session, context: Context, row: AddressGroup, old: Sequence[str], new: Sequence[str]
) -> AddressGroupView:
    added, removed = sorted(set(new) - set(old)), sorted(set(old) - set(new))
    if added or removed:
        change_set(session, context, row.id, added=added, removed=removed)
        session.execute(
            update(FirewallPolicy)
            .where(policies_naming([row.id]), FirewallPolicy.audited)
            .values(audited=False, revision_number=FirewallPolicy.revision_number + 1, updated_at=context.now)
            .execution_options(synchronize_session=False)
        )
    return AddressGroupView(row=row, addresses=tuple(sorted(new)), tags=tags_of(session, [row.id]).get(row.id, ()))


def _views(session: Session, rows: Sequence[AddressGroup]) -> list[AddressGroupView]:
    ids = [row.id for row in rows]
    members, tags = members_of(session, ids), tags_of(session, ids)
    return [AddressGroupView(row=row, addresses=members.get(row.id, ()), tags=tags.get(row.id, ())) for row in rows]
