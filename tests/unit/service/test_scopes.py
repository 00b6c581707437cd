"""Scopes: which ports groups of the strata admin and baseline cover of themselves, now and later."""

from typing import Any

import pytest

from portward.service import groups, ports
from portward.service.errors import (
    BadRequest,
    FirewallGroupNotFound,
    FirewallGroupPortsByScope,
    FirewallGroupScopeWithoutProjects,
    FirewallGroupTenantScope,
)
from portward.service.hosts import marks
from portward.service.status import Status
from unit.service.world import World

VM = "compute:nova"


def change(world: World, group: str, **values: Any) -> groups.GroupView:
    view: groups.GroupView = world.call(groups.update_group, group, groups.GroupValues(**values))
    return view


def covered(world: World, group: str) -> tuple[str, ...]:
    view: groups.GroupView = world.call(groups.get_group, group)
    return view.port_ids


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"scope": "all"}, FirewallGroupTenantScope),
        ({"scope": "projects", "project_ids": ("p",)}, FirewallGroupTenantScope),
        ({"stratum": "admin", "scope": "projects"}, FirewallGroupScopeWithoutProjects),
        ({"stratum": "admin", "scope": "all", "project_ids": ("p",)}, FirewallGroupScopeWithoutProjects),
        ({"stratum": "admin", "project_ids": ("p",)}, FirewallGroupScopeWithoutProjects),
        ({"stratum": "admin", "scope": "all", "ports": 1}, FirewallGroupPortsByScope),
    ],
)
def test_stratum_scope_projects_and_ports_must_go_together(
    world: World, values: dict[str, Any], error: type[BadRequest]
) -> None:
    values = values | ({"ports": (world.port(),)} if "ports" in values else {})
    with pytest.raises(error):
        world.call(groups.create_group, groups.GroupValues(**values))
    group = world.group()
    with pytest.raises(error):
        change(world, group, **values)


def test_the_ports_of_a_group_whose_scope_names_them_cannot_be_set(world: World) -> None:
    group = world.group(stratum="admin", scope="all")
    with pytest.raises(FirewallGroupPortsByScope):
        change(world, group, ports=())


def test_scope_all_covers_every_port_that_there_is(world: World) -> None:
    there = sorted([world.port(), world.port(device_owner=VM, project_id="q")])
    world.port(device_owner="network:dhcp")
    group = world.group(stratum="admin", scope="all")
    assert covered(world, group) == tuple(there)
    assert change(world, world.group(stratum="baseline"), scope="all").port_ids == tuple(there)


@pytest.mark.parametrize("owner", [VM, "network:router_interface"])
def test_scope_all_covers_a_port_from_the_transaction_that_makes_it(world: World, owner: str) -> None:
    group = world.group(stratum="admin", scope="all")
    before = world.seen()
    port = world.port(device_owner=owner, project_id="new")
    assert world.seen().groups[group] > before.groups[group]
    view = world.call(groups.get_group, group)
    assert (view.row.revision_number, view.port_ids) == (1, (port,))


def test_scope_projects_covers_the_ports_of_these_projects_as_they_come(world: World) -> None:
    one, other = world.port(project_id="one"), world.port(project_id="other")
    group = world.group(stratum="baseline", scope="projects", project_ids=("one",))
    assert covered(world, group) == (one,)
    later, _ = world.port(project_id="one"), world.port(project_id="other")
    assert set(covered(world, group)) == {one, later}
    view = change(world, group, project_ids=("third", "other"))
    assert (view.project_ids, set(view.port_ids) & {one, later, other}) == (("other", "third"), {other})
    assert change(world, group, project_ids=("other", "third")).row.revision_number == view.row.revision_number


def test_a_port_that_moves_to_another_project_changes_the_groups_of_its_project_and_no_others(world: World) -> None:
    port = world.port(project_id="one")
    everywhere = world.group(stratum="admin", scope="all")
    ones, others = (world.group(stratum="admin", scope="projects", project_ids=(name,)) for name in ("one", "other"))
    tenant = world.group(port)
    world.call(ports.update_port, port, ports.PortValues(project_id="other"))
    assert [covered(world, group) for group in (everywhere, ones, others, tenant)] == [(port,), (), (port,), (port,)]


def test_a_port_enters_when_it_becomes_a_routers_or_a_vms_and_leaves_when_it_is_none_any_more(world: World) -> None:
    group = world.group(stratum="admin", scope="all")
    port = world.port(device_owner="network:dhcp")
    assert covered(world, group) == ()
    for owner, expected in ((VM, (port,)), ("network:router_interface", (port,)), ("", ()), (VM, (port,))):
        world.call(ports.update_port, port, ports.PortValues(device_owner=owner))
        assert covered(world, group) == expected
    world.call(ports.delete_port, port)
    assert covered(world, group) == ()


def test_a_group_keeps_what_it_covers_when_its_scope_becomes_ports(world: World) -> None:
    port = world.port(project_id="one")
    group = world.group(stratum="admin", scope="projects", project_ids=("one",))
    before = world.seen()
    view = change(world, group, scope="ports")
    assert (view.port_ids, view.project_ids) == ((port,), ())
    assert world.seen() == before
    world.port(project_id="one")
    assert covered(world, group) == (port,)
    assert change(world, group, ports=()).port_ids == ()


def test_a_group_whose_scope_names_its_ports_is_deleted_with_them_in_it_and_hosts_hear_of_it(world: World) -> None:
    world.port()
    group = world.group(stratum="admin", scope="all")
    with world.store.read() as session:
        generation, before = marks(session)
    world.call(groups.delete_group, group)
    with world.store.read() as session:
        later, after = marks(session)
    assert later > generation
    assert after.get("h1") != before["h1"]
    with pytest.raises(FirewallGroupNotFound):
        covered(world, group)
    world.port()


def test_a_group_that_covers_nothing_yet_is_inactive_and_then_waits_for_its_host(world: World) -> None:
    group = world.group(stratum="admin", scope="all")
    assert world.call(groups.get_group, group).status is Status.INACTIVE
    world.port()
    assert world.call(groups.get_group, group).status is Status.PENDING_CREATE
