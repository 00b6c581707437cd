"""The agent as a process, with its API: killed at every step, refused and deprived, while packets flow.

The tests share a host that has ports of both kinds.
"""

import time
from collections.abc import Iterator

import pytest

from packets.conftest import leaving_no_process
from packets.deaths import DEATHS
from packets.enforcer import KINDS
from packets.mortal_agent import COUNTED
from packets.mortal_host import MortalHost, mortal_host
from packets.ours import footprint, wipe
from packets.refusals import REASON, REFUSED
from packets.steady import steady
from portward.dataplane.nftables.namespace import Step
from portward.dataplane.openvswitch import bridge
from portward.lab import Lab, Outcome

OLD, NEW = (Outcome.PASSED, Outcome.SILENT), (Outcome.SILENT, Outcome.PASSED)
KILLED = (*DEATHS, *((kind, COUNTED, True) for kind in KINDS))
TAKING_OVER = [("router", Step.MARKS_CLEARED), *((kind, step) for kind, step, _ in KILLED)]


@pytest.fixture(scope="module", autouse=True)
def no_process_left() -> Iterator[None]:
    """The tests end what they start, all together: an agent that one of them starts is the next one's."""
    with leaving_no_process():
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalHost]:
    with Lab.create("agent", switch=True) as lab, mortal_host(lab, tmp_path_factory.mktemp("agent")) as host:
        yield host


@pytest.fixture
def quiet(kind: str, shared: MortalHost) -> MortalHost:
    """The host, with its port of ``kind`` guarded."""
    shared.portward.untell()
    shared.portward.revive()
    shared.guard(kind)
    assert shared.decides() == OLD
    return shared


@pytest.fixture
def host(quiet: MortalHost) -> Iterator[MortalHost]:
    """The same, under traffic until the test ends."""
    with steady(quiet.lab, "vm", allowed=(5003,), denied=(5004, 5005)):
        yield quiet


@pytest.mark.parametrize(("kind", "step", "in_force"), KILLED)
def test_the_agent_killed_in_the_middle_of_a_change_leaks_nothing_and_the_next_one_finishes_it(
    kind: str, host: MortalHost, step: str, in_force: bool
) -> None:
    before = footprint(host.lab, kind)
    host.portward.tell("die", step)
    host.change()
    host.portward.wait_until_dead()
    assert host.decides() == (NEW if in_force else OLD)
    host.portward.restart_agent()
    host.portward.wait_until_realised()
    assert host.decides() == NEW
    assert footprint(host.lab, kind) == before, "something was left behind"


@pytest.mark.parametrize(("kind", "step"), TAKING_OVER)
def test_the_agent_killed_as_it_takes_over_leaks_nothing_and_the_next_one_finishes_it(
    kind: str, host: MortalHost, step: str
) -> None:
    before = footprint(host.lab, kind)
    host.portward.kill("agent")
    host.change()
    host.portward.tell("die", step)
    host.portward.start_agent()
    host.portward.wait_until_dead()
    host.portward.restart_agent()
    host.portward.wait_until_realised()
    assert host.decides() == NEW
    assert footprint(host.lab, kind) == before, "something was left behind"


@pytest.mark.parametrize(("kind", "step", "in_force"), REFUSED)
def test_a_refusal_is_the_reason_of_the_port_and_its_group_and_heals_without_being_told(
    kind: str, host: MortalHost, step: str, in_force: bool
) -> None:
    host.portward.tell("refuse", step)
    host.change()
    host.portward.wait("agent", "is in error", lambda: host.status() == "ERROR", 20)
    assert REASON in str(host.reasons()[kind])
    assert host.decides() == (NEW if in_force else OLD)
    host.portward.untell()
    gone = time.monotonic()
    host.portward.wait("agent", "has healed", lambda: host.status() == "ACTIVE", 20)
    print(f"healed {time.monotonic() - gone:.1f} s after the cause was gone")
    assert host.decides() == NEW
    assert host.reasons() == {kind: None}


@pytest.mark.parametrize(("kind", "step"), [("router", Step.SWITCHED), ("vm", bridge.Step.COMMITTED)])
def test_a_refusal_is_the_reason_of_ports_of_its_kind_alone_and_the_others_change(
    kind: str, quiet: MortalHost, step: str
) -> None:
    quiet.guard(*KINDS)
    quiet.portward.tell("refuse", step)
    quiet.change()
    quiet.portward.wait("agent", "is in error", lambda: quiet.status() == "ERROR", 20)
    assert {of_kind for of_kind, reason in quiet.reasons().items() if reason} == {kind}
    assert quiet.decides() == (Outcome.SILENT, Outcome.SILENT), "what each of two ports denies"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_api_opens_nothing_and_back_again_it_is_obeyed(host: MortalHost) -> None:
    host.portward.kill("api")
    assert host.decides() == OLD
    host.portward.start_api()
    host.change()
    host.portward.wait_until_realised()
    assert host.decides() == NEW


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_api_what_was_enforced_stays_and_what_it_kept_is_all_that_an_agent_needs(
    host: MortalHost,
) -> None:
    with host.portward.silent_api():
        host.portward.kill("agent")
        assert host.decides() == OLD
        host.portward.restart_agent()
        assert host.decides() == OLD


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_alone_enforces_what_it_kept_on_a_host_that_forgot_everything(kind: str, quiet: MortalHost) -> None:
    with quiet.portward.silent_api():
        quiet.portward.kill("agent")
        wipe(quiet.lab, kind)
        assert quiet.decides() != OLD
        quiet.portward.restart_agent()
        assert quiet.decides() == OLD


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damaged", [True, False], ids=["damaged", "missing"])
def test_a_kept_state_that_cannot_be_used_opens_nothing_and_the_api_is_obeyed(host: MortalHost, damaged: bool) -> None:
    kept = host.state_dir / "state.json"
    with host.portward.silent_api():
        host.portward.kill("agent")
        if damaged:
            kept.write_bytes(kept.read_bytes()[:-20])
        else:
            kept.unlink()
        host.portward.start_agent_until("kept_state_unusable" if damaged else "no_kept_state")
        assert host.decides() == OLD
    host.change()
    host.portward.wait_until_realised()
    assert host.decides() == NEW


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_stops_no_change_and_what_is_enforced_is_kept_once_there_is_room(
    host: MortalHost,
) -> None:
    kept = host.state_dir / "state.json"
    before = kept.read_bytes()
    with host.full_disk():
        host.change()
        host.portward.wait_until_realised()
        assert host.decides() == NEW
        # What was kept before makes room for the new one, which may be there when it is tried again.
        assert not kept.exists() or kept.read_bytes() != before, "a restart would go back to what was in force before"
    host.portward.wait("agent", "keeps its state", kept.exists, 20)
    with host.portward.silent_api():
        host.portward.kill("agent")
        host.portward.restart_agent()
        assert host.decides() == NEW
