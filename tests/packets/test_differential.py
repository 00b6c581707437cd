"""Random policies, and packets at their borders, through ports of each kind: every verdict is the golden model's.

How many cases a run has, and how to have more, is ``soak``'s business.
"""

from collections.abc import Iterator

import pytest

from packets import soak
from packets.differential import Difference, Differential
from packets.enforcer import KINDS, Enforcer
from packets.faults import FAULTS
from packets.wire import RouterWire, SwitchWire, TranslatingWire
from portward.lab import Lab
from properties.seeded import FAVOURS, favoured

SIZES = (1, 2, 3, 4, 6, 8, 12, 20, 30, 40)
LONG = (200, 500, 1000)


@pytest.fixture
def wire(lab: Lab, enforce: Enforcer) -> Iterator[RouterWire]:
    with RouterWire(lab) if lab.state.switch is None else SwitchWire(lab) as made:
        enforce.ports |= made.guarded
        yield made


@pytest.fixture
def translating(lab: Lab) -> Iterator[TranslatingWire]:
    with TranslatingWire(lab) as made:
        yield made


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_every_verdict_of_a_port_is_the_models(wire: RouterWire, enforce: Enforcer) -> None:
    run = Differential(wire, enforce, soak.seed())
    for number in soak.rounds(600):
        with favoured(run.chance.choice(sorted(FAVOURS))):
            run.round(
                run.chance.choice(SIZES),
                narrow=run.chance.choice((0.2, 0.5, 0.8)),
                protocols=wire.PROTOCOLS,
                change=number % 4 == 0,
            )
    print(run)
    run.counts.check()


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_every_verdict_of_long_policies_is_the_models(wire: RouterWire, enforce: Enforcer) -> None:
    run = Differential(wire, enforce, soak.seed())
    for number in soak.rounds(len(LONG)):
        run.round(LONG[number % len(LONG)], narrow=run.chance.choice((0.8, 0.9)), protocols=wire.PROTOCOLS, change=True)
    print(run)
    run.counts.check()


@pytest.mark.soak
def test_every_verdict_before_and_after_translation_is_the_models(
    translating: TranslatingWire, enforce: Enforcer
) -> None:
    run = Differential(translating, enforce, soak.seed())
    for number in soak.rounds(150):
        with favoured(run.chance.choice(sorted(FAVOURS))):
            run.round(
                run.chance.choice(SIZES),
                narrow=run.chance.choice((0.2, 0.5, 0.8)),
                protocols=translating.PROTOCOLS,
                change=number % 3 == 0,
            )
    print(run)
    run.counts.check()


def small_run(wire: RouterWire, enforce: Enforcer) -> None:
    run = Differential(wire, enforce, seed=7)
    for _ in range(25):
        run.round(8, narrow=0.5, protocols=wire.PROTOCOLS, change=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_run_without_a_fault_finds_no_difference(wire: RouterWire, enforce: Enforcer) -> None:
    small_run(wire, enforce)


@pytest.fixture
def put_in(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is there before the dataplane installs anything."""
    FAULTS[fault](monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("put_in")
def test_the_differential_test_catches(wire: RouterWire, enforce: Enforcer) -> None:
    with pytest.raises(Difference):
        small_run(wire, enforce)
