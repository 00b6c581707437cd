"""How many of a kind a project may have."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portward.config import ProjectQuotas, Quotas
from portward.service import address_groups, rules
from portward.service.errors import OverQuota
from unit.service.world import World, sqlite

QUOTAS = Quotas(
    firewall_group=1,
    firewall_policy=2,
    firewall_rule=3,
    projects={"p2": ProjectQuotas(firewall_rule=-1, firewall_policy=0)},
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(sqlite(tmp_path), quotas=QUOTAS)
    yield made
    made.store.close()


@pytest.mark.parametrize(("kind", "number"), [("rule", 3), ("policy", 2), ("group", 1)])
def test_one_more_than_the_quota_is_refused_for_the_new_objects_project(world: World, kind: str, number: int) -> None:
    make: Callable[..., str] = getattr(world, kind)
    for _ in range(number):
        make(project_id="p1")
    with pytest.raises(OverQuota) as refused:
        make(project_id="p1")
    assert str(refused.value) == f"Quota exceeded for resources: ['firewall_{kind}']."
    make(project_id="p3")


def test_a_project_may_have_quotas_of_its_own(world: World) -> None:
    for _ in range(5):
        world.rule(project_id="p2")
    with pytest.raises(OverQuota):
        world.policy(project_id="p2")
    world.group(project_id="p2")
    with pytest.raises(OverQuota):
        world.group(project_id="p2")


def test_address_groups_have_quotas_too_of_all_and_of_a_project(world: World) -> None:
    world.quotas = Quotas(address_group=1, projects={"p2": ProjectQuotas(address_group=2), "p3": ProjectQuotas()})
    for project_id, number in (("p1", 1), ("p2", 2), ("p3", 1)):
        values = address_groups.AddressGroupValues(project_id=project_id)
        for _ in range(number):
            world.call(address_groups.create_address_group, values)
        with pytest.raises(OverQuota, match=r"\['address_group'\]"):
            world.call(address_groups.create_address_group, values)


def test_what_is_deleted_makes_room(world: World) -> None:
    made = [world.rule() for _ in range(3)]
    world.call(rules.delete_rule, made[0])
    world.rule()
