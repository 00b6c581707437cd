"""The members of address sets as drivers lay them out."""

from ipaddress import ip_network
from uuid import UUID

import pytest

from portward.dataplane.addresses import AddressSets, members_of
from portward.model import AddressSet, InvalidValue

ID = str(UUID(int=1))


def address_set(*members: str) -> AddressSet:
    return AddressSet(id=ID, version=1, members=tuple(map(ip_network, members)))


def held(*members: str) -> dict[int, set[str]]:
    return {version: set(map(str, held)) for version, held in members_of(address_set(*members)).prefixes.items()}


def test_members_are_told_apart_by_ip_version() -> None:
    assert held("10.0.0.1/32", "fd00::/64") == {4: {"10.0.0.1/32"}, 6: {"fd00::/64"}}


def test_a_prefix_that_another_holds_is_left_out() -> None:
    assert held("10.1.0.0/16", "10.0.0.0/8", "10.1.2.3/32", "11.0.0.0/32")[4] == {"10.0.0.0/8", "11.0.0.0/32"}


def test_neighbours_stay_apart_so_that_one_of_them_can_go_alone() -> None:
    assert held("10.0.0.0/32", "10.0.0.1/32")[4] == {"10.0.0.0/32", "10.0.0.1/32"}


def test_everything_holds_every_other_member() -> None:
    assert held("::/0", "fd00::1/128")[6] == {"::/0"}


def test_a_set_that_stays_is_the_same_object_and_one_that_changes_is_not() -> None:
    first = address_set("10.0.0.1/32")
    sets = AddressSets().update([first])
    before = sets.of([ID])[ID]
    assert sets.update([first]).of([ID])[ID] is before
    assert sets.update([address_set("10.0.0.2/32")]).of([ID])[ID] != before


def test_a_set_that_is_not_there_is_an_error_and_not_an_empty_one() -> None:
    with pytest.raises(InvalidValue, match="not part of the state"):
        AddressSets().of([ID])
