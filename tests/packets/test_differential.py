"""Random policies, and packets at their borders, through the router: every verdict is the golden model's."""

import random
from collections.abc import Iterator

import pytest

from packets.differential import Differential
from packets.enforcer import Enforcer
from packets.wire import RouterWire
from portward.lab import Lab

SEED = 20260


@pytest.fixture
def wire(lab: Lab) -> Iterator[RouterWire]:
    with RouterWire(lab) as made:
        yield made


def test_every_verdict_of_the_router_is_the_models(wire: RouterWire, enforce: Enforcer) -> None:
    run = Differential(wire, enforce, SEED)
    chance = random.Random(SEED)
    for number in range(300):
        run.round(
            chance.choice((1, 2, 3, 5, 8, 12, 20, 40)), narrow=chance.choice((0.2, 0.5, 0.8)), change=number % 3 == 0
        )
    print(f"\nseed {SEED}: {run.counts}")
    run.counts.check()
