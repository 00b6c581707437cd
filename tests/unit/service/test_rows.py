"""Pages of lists: which rows, in what order, how many."""

from datetime import timedelta
from typing import Any

from portward.service import groups, rules
from portward.service.groups import status_of, with_status
from portward.service.rows import Page
from portward.service.status import DEADLINE
from portward.store.tables import FirewallGroup, FirewallRule
from unit.service.world import World


def listed(world: World, function: Any, **page: Any) -> list[str]:
    return [view.row.id for view in world.call(function, Page(**page))]


def test_a_page_is_filtered_ordered_with_ties_by_id_and_cut(world: World) -> None:
    first, second = sorted(world.rule(name="a") for _ in range(2))
    last = world.rule(name="b")
    world.rule(name="c")
    where = [FirewallRule.name != "c"]
    assert listed(world, rules.list_rules, where=where, order_by=[FirewallRule.name]) == [first, second, last]
    descending = [FirewallRule.name.desc(), FirewallRule.id.desc()]
    assert listed(world, rules.list_rules, where=where, order_by=descending) == [last, second, first]
    assert listed(world, rules.list_rules, where=where, order_by=descending, limit=2) == [last, second]


def test_the_database_filters_and_sorts_by_the_status_that_is_shown(world: World) -> None:
    empty, unbound = world.group(), world.group(world.port(host=""))
    down, waiting = world.group(world.port(host=""), admin_state_up=False), world.group(world.port())
    expected = {"INACTIVE": empty, "ACTIVE": unbound, "DOWN": down, "PENDING_CREATE": waiting}
    for status, group in expected.items():
        assert world.call(groups.get_group, group).status == status
        assert listed(world, groups.list_groups, where=[with_status([status], world.now)]) == [group]
    late = world.now + DEADLINE + timedelta(seconds=60)
    assert listed(world, groups.list_groups, where=[with_status(["ERROR"], late)]) == [waiting]
    by_status = [status_of(world.now)]
    assert listed(world, groups.list_groups, order_by=by_status) == [expected[name] for name in sorted(expected)]
    assert listed(world, groups.list_groups, where=[FirewallGroup.id == down], order_by=by_status) == [down]
