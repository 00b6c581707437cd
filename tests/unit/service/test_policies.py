"""The order of rules in a policy, however they came there."""

import random
from pathlib import Path

import pytest

from portward.config import Quotas
from portward.service import policies
from unit.service.world import World, sqlite


@pytest.mark.parametrize("seed", range(3))
def test_rules_stand_where_they_were_put_also_when_the_gap_is_used_up(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    world = World(sqlite(tmp_path), quotas=Quotas(firewall_rule=-1))
    expected = [world.rule() for _ in range(3)]
    policy = world.policy(*expected)
    for number in range(60):
        rule = world.rule()
        place = 1 if number % 3 else chance.randrange(len(expected))
        if chance.random() < 0.5:
            world.call(policies.insert_rule, policy, rule, before=expected[place])
            expected.insert(place, rule)
        else:
            world.call(policies.insert_rule, policy, rule, after=expected[place])
            expected.insert(place + 1, rule)
        assert world.call(policies.get_policy, policy).rule_ids == tuple(expected)
    world.store.close()
