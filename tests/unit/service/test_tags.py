"""Words on resources, to find them by."""

from typing import Any

import pytest
from sqlalchemy import func, select

from portward.service import groups, policies, ports, rules, tags
from portward.service.errors import TagNotFound
from portward.service.rows import Page
from portward.store.tables import FirewallRule, ResourceTag
from unit.service.world import World


def tag(world: World, rule_id: str, change: Any, *arguments: Any) -> Any:
    def call(session: Any, context: Any) -> Any:
        return change(session, context, rules.find_rule(session, context, rule_id), *arguments)

    return world.call(call)


def test_tags_are_set_added_and_taken_off(world: World) -> None:
    rule = world.rule()
    assert tag(world, rule, tags.replace_tags, ["b", "a", "b"]) == ("a", "b")
    assert tag(world, rule, tags.add_tags, ["c", "a"]) == ("a", "b", "c")
    tag(world, rule, tags.remove_tag, "b")
    assert world.call(rules.get_rule, rule).tags == ("a", "c")
    with pytest.raises(TagNotFound, match="Tag b could not be found"):
        tag(world, rule, tags.remove_tag, "b")
    tag(world, rule, tags.remove_tags)
    assert world.call(rules.list_rules)[0].tags == ()


def test_a_change_of_tags_counts_for_the_resource_and_for_nobody_else(world: World) -> None:
    rule = world.rule()
    policy = world.policy(rule, audited=True)
    before = world.seen()
    tag(world, rule, tags.replace_tags, ["a"])
    row = world.call(rules.get_rule, rule).row
    assert (row.revision_number, row.updated_at < world.now) == (1, True)
    tag(world, rule, tags.add_tags, ["a"])
    assert world.call(rules.get_rule, rule).row.revision_number == 1
    assert world.call(policies.get_policy, policy).row.audited
    assert world.seen() == before


def test_resources_are_found_by_all_of_their_tags_or_any(world: World) -> None:
    both, one, none = (world.rule() for _ in range(3))
    tag(world, both, tags.replace_tags, ["a", "b"])
    tag(world, one, tags.replace_tags, ["a"])

    def found(*wanted: str, every: bool) -> set[str]:
        page = Page(where=[tags.with_tags(FirewallRule, wanted, every=every)])
        return {view.row.id for view in world.call(rules.list_rules, page)}

    assert found("a", "b", every=True) == {both}
    assert found("a", "b", every=False) == {both, one}
    assert found("c", every=False) == set()
    assert none in {view.row.id for view in world.call(rules.list_rules)}


def test_a_deleted_resource_leaves_no_tags(world: World) -> None:
    def tag_any(session: Any, context: Any, find: Any, id_: str) -> None:
        tags.replace_tags(session, context, find(session, context, id_), ["a"])

    for find, delete, id_ in (
        (rules.find_rule, rules.delete_rule, world.rule()),
        (policies.find_policy, policies.delete_policy, world.policy()),
        (groups.find_group, groups.delete_group, world.group()),
        (ports.find_port, ports.delete_port, world.port()),
    ):
        world.call(tag_any, find, id_)
        world.call(delete, id_)
    with world.store.read() as session:
        assert session.scalar(select(func.count()).select_from(ResourceTag)) == 0
