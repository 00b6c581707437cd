"""What is done with a state, in which order, and when it is tried again."""

from pathlib import Path

import pytest

from portward.agent.drivers import Drivers
from portward.agent.enforcer import Enforcer
from portward.agent.state_file import StateFile
from portward.channel.backoff import Backoff
from portward.model import Action, HostState, PortKind, PortReport, Report
from unit.agent.dataplane import FakeDataplane
from unit.agent.values import covered, policy, state, uuid


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _enforcer(directory: Path, dataplane: FakeDataplane, clock: Clock | None = None) -> Enforcer:
    return Enforcer(
        Drivers({PortKind.ROUTER: dataplane}),
        StateFile(directory),
        clock=clock or Clock(),
        retry=Backoff(1.0, 30.0, uniform=lambda _, high: high),
    )


OPEN = state(5, covered(1, 7), policies=(policy(7, version=5, action=Action.ALLOW),))
CLOSED = state(6, covered(1, 7), policies=(policy(7, version=6, action=Action.DENY),))


def test_what_was_taken_is_enforced_after_a_restart(tmp_path: Path):
    _enforcer(tmp_path, FakeDataplane()).take(OPEN)
    restarted = FakeDataplane()

    report = _enforcer(tmp_path, restarted).restore()

    assert restarted.in_force == OPEN
    assert report == Report(generation=5, ports=(PortReport(port_id=uuid(1)),))


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class KilledInApply(FakeDataplane):
    """Dies before or after it has changed the kernel."""

    def __init__(self, *, after: bool) -> None:
        super().__init__()
        self.after = after

    def apply(self, state: HostState) -> Report:
        if self.after:
            super().apply(state)
        raise Killed


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_during_a_change_never_brings_back_what_was_closed(tmp_path: Path, after: bool):
    _enforcer(tmp_path, FakeDataplane()).take(OPEN)
    with pytest.raises(Killed):
        _enforcer(tmp_path, KilledInApply(after=after)).take(CLOSED)
    restarted = FakeDataplane()

    _enforcer(tmp_path, restarted).restore()

    assert restarted.applied == [CLOSED]


def test_a_state_that_cannot_be_kept_is_enforced_and_a_restart_goes_back_to_nothing_older(tmp_path: Path):
    dataplane, restarted = FakeDataplane(), FakeDataplane()
    enforcer = _enforcer(tmp_path, dataplane)
    enforcer.take(OPEN)
    (tmp_path / "state.new").mkdir()  # so no file can be written there

    report = enforcer.take(CLOSED)

    assert dataplane.in_force == CLOSED
    assert report.generation == 6
    (tmp_path / "state.new").rmdir()
    assert _enforcer(tmp_path, restarted).restore() is None
    assert restarted.applied == []


def test_without_a_kept_state_the_host_stays_as_it_is(tmp_path: Path):
    dataplane = FakeDataplane()
    enforcer = _enforcer(tmp_path, dataplane)

    assert enforcer.restore() is None
    assert enforcer.again() is None
    assert dataplane.applied == []


def test_with_a_damaged_state_the_host_stays_as_it_is(tmp_path: Path):
    _enforcer(tmp_path, FakeDataplane()).take(OPEN)
    (tmp_path / "state.json").write_bytes(b"{")
    dataplane = FakeDataplane()

    assert _enforcer(tmp_path, dataplane).restore() is None
    assert dataplane.applied == []


def test_a_generation_alone_does_not_write_the_disk_again(tmp_path: Path):
    enforcer = _enforcer(tmp_path, FakeDataplane())
    enforcer.take(OPEN)
    before = (tmp_path / "state.json").stat().st_ino

    report = enforcer.take(HostState(generation=9, ports=OPEN.ports, policies=OPEN.policies))

    assert report.generation == 9
    assert (tmp_path / "state.json").stat().st_ino == before


def test_ports_in_error_are_tried_again_after_1_2_4_seconds_up_to_30_until_they_are_realised(tmp_path: Path):
    dataplane, clock = FakeDataplane(), Clock()
    dataplane.errors[uuid(1)] = "no such device"
    enforcer = _enforcer(tmp_path, dataplane, clock)
    assert enforcer.retry_in() is None
    enforcer.take(OPEN)

    delays = []
    for _ in range(7):
        delays.append(enforcer.retry_in())
        clock.now += delays[-1] or 0.0
        assert enforcer.retry_in() == 0.0
        assert enforcer.again() is None  # what became of it is what it was
    dataplane.errors.clear()
    healed = enforcer.again()

    assert delays == [1, 2, 4, 8, 16, 30, 30]
    assert healed == Report(generation=5, ports=(PortReport(port_id=uuid(1)),))
    assert enforcer.retry_in() is None


def test_a_new_state_is_tried_again_as_soon_as_the_first(tmp_path: Path):
    dataplane, clock = FakeDataplane(), Clock()
    dataplane.errors[uuid(1)] = "no such device"
    enforcer = _enforcer(tmp_path, dataplane, clock)
    enforcer.take(OPEN)
    for _ in range(5):
        enforcer.again()

    enforcer.take(CLOSED)

    assert enforcer.retry_in() == 1


def test_a_port_that_breaks_is_reported(tmp_path: Path):
    dataplane = FakeDataplane()
    enforcer = _enforcer(tmp_path, dataplane)
    enforcer.take(OPEN)
    dataplane.errors[uuid(1)] = "the device is gone"

    assert enforcer.again() == Report(generation=5, ports=(PortReport(port_id=uuid(1), error="the device is gone"),))
    assert enforcer.again() is None


def test_a_state_that_could_not_be_kept_is_kept_once_there_is_room(tmp_path: Path):
    clock, restarted = Clock(), FakeDataplane()
    enforcer = _enforcer(tmp_path, FakeDataplane(), clock)
    (tmp_path / "state.new").mkdir()  # so no file can be written there
    enforcer.take(OPEN)
    delays = []
    for _ in range(2):
        delays.append(enforcer.retry_in())
        clock.now += delays[-1] or 0.0
        enforcer.again()
    (tmp_path / "state.new").rmdir()
    enforcer.again()

    assert delays == [1, 2]
    assert enforcer.retry_in() is None
    _enforcer(tmp_path, restarted).restore()
    assert restarted.in_force == OPEN


def test_a_host_that_changes_all_the_time_does_not_put_off_the_next_attempt(tmp_path: Path):
    dataplane, clock = FakeDataplane(), Clock()
    dataplane.errors[uuid(1)] = "the kernel refused"
    enforcer = _enforcer(tmp_path, dataplane, clock)
    enforcer.take(OPEN)
    for _ in range(9):
        clock.now += 0.1
        enforcer.again()

    assert enforcer.retry_in() == pytest.approx(0.1)


def test_another_error_is_tried_again_as_soon_as_the_first(tmp_path: Path):
    dataplane, clock = FakeDataplane(), Clock()
    dataplane.errors[uuid(1)] = "no such namespace"
    enforcer = _enforcer(tmp_path, dataplane, clock)
    enforcer.take(OPEN)
    for _ in range(5):
        clock.now += enforcer.retry_in() or 0.0
        enforcer.again()
    dataplane.errors[uuid(1)] = "the kernel refused"
    enforcer.again()

    assert enforcer.retry_in() == 1


def test_what_no_port_can_speak_for_is_tried_again_too(tmp_path: Path):
    dataplane, clock = FakeDataplane(), Clock()
    dataplane.left_undone = True
    enforcer = _enforcer(tmp_path, dataplane, clock)
    enforcer.take(OPEN)
    assert enforcer.retry_in() == 1
    clock.now += 1
    dataplane.left_undone = False
    enforcer.again()

    assert enforcer.retry_in() is None
