"""Flows of a bridge in sections: what a change touches, and which connections it has judged anew."""

import uuid
from collections.abc import Hashable
from typing import Any

import pytest

from portward.dataplane.lists import Part
from portward.dataplane.openvswitch.flows import Load
from portward.dataplane.openvswitch.layout import Table
from portward.dataplane.openvswitch.plan import Plan, Profile, Wanted, changes, number_all, plan
from portward.dataplane.openvswitch.policies import LONGEST_STRETCH, stretches
from portward.dataplane.openvswitch.ports import FilteredPort
from portward.model import Action, Port, PortKind, Rule, Stratum

ONE, OTHER = (str(uuid.uuid4()) for _ in range(2))


def rule(action: Action = Action.ALLOW) -> Rule:
    return Rule(id=str(uuid.uuid4()), action=action)


def profile(policy_id: str, *rules: Rule) -> Profile:
    return Profile((), (Part(Stratum.TENANT, policy_id, rules),))


def epochs(made: Plan) -> dict[int, int]:
    return {number: epoch for number, (_, epoch) in made.epochs.items()}


def test_profiles_that_come_at_once_do_not_share_an_epoch() -> None:
    made = plan(Wanted(profiles={1: profile(ONE, rule()), 2: profile(OTHER, rule())}), Plan(), 10)
    assert sorted(epochs(made).values()) == [10, 11]


def test_a_change_of_one_policy_raises_the_epochs_of_the_profiles_that_use_it_and_no_others() -> None:
    one, other = profile(ONE, rule()), profile(OTHER, rule())
    before = plan(Wanted(profiles={1: one, 2: other}), Plan(), 10)
    after = plan(Wanted(profiles={1: profile(ONE, rule(Action.DENY)), 2: other}), before, 20)
    assert epochs(after)[1] == 20
    assert epochs(after)[2] == epochs(before)[2]


def test_a_change_of_nothing_changes_no_flow() -> None:
    wanted = Wanted(profiles={1: profile(ONE, rule())})
    before = plan(wanted, Plan(), 10)
    gone, come = changes(before.sections, plan(wanted, before, 20).sections)
    assert (list(gone), list(come)) == ([], [])


def test_numbers_stay_when_other_names_come() -> None:
    few = number_all(["a", "b"])
    more = number_all(["a", "b", "c"])
    assert {name: more[name] for name in few} == few
    assert len(set(more.values())) == 3


def test_a_policy_of_more_rules_than_there_are_priorities_is_asked_in_stretches_in_order() -> None:
    rules = (rule(Action.DENY),) * 70_000 + (rule(),)
    parts = list(stretches(rules))
    assert max(map(len, parts)) == LONGEST_STRETCH
    assert tuple(rule for part in parts for rule in part) == rules


def test_every_stretch_of_a_policy_is_asked_by_the_list_that_uses_it() -> None:
    made = plan(Wanted(profiles={1: profile(ONE, *(rule() for _ in range(LONGEST_STRETCH + 1)))}), Plan(), 10)
    steps = [flow for flow in made.sections["profile", 1].flows if flow.key.table == Table.NEXT]
    asked = [action.value for flow in steps for action in flow.actions if isinstance(action, Load)]
    assert set(made.policies) <= set(asked)
    assert len(made.policies) == 2


@pytest.mark.parametrize("change", [{"network": 20}, {"ofport": 6}, {"secured": True}, {}])
def test_a_port_that_may_not_send_from_any_source_any_more_is_another_place_to_learn_at(change: dict[str, Any]) -> None:
    def places(*, network: int = 10, ofport: int = 5, secured: bool = False, profile: int = 1) -> frozenset[Hashable]:
        port = Port(id=ONE, kind=PortKind.VM, mac_address="fa:16:3e:00:00:01", port_security_enabled=secured)
        filtered = FilteredPort(port=port, ofport=ofport, network=network, zone=1, profile=profile)
        return plan(Wanted(filtered=(filtered,)), Plan(), 1).places

    assert (places() != places(profile=2, **change)) == bool(change)
