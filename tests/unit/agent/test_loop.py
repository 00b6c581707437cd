"""The agent with a channel that the test speaks for."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from portward.agent.counting import Counting
from portward.agent.drivers import Drivers
from portward.agent.enforcer import Enforcer
from portward.agent.ledger import Ledger
from portward.agent.loop import Agent
from portward.agent.state_file import StateFile
from portward.channel.backoff import Backoff
from portward.channel.client import Refused, Unreachable
from portward.channel.messages import Total
from portward.dataplane.protocol import Count, Reading
from portward.model import HostState, PortKind, PortReport, Report
from unit.agent.dataplane import FakeDataplane
from unit.agent.values import covered, state, uuid

OLD, NEW = state(5, covered(1)), state(6, covered(1), covered(2))


class Script:
    """A channel: each poll takes the next line of ``lines``, each report is kept or refused."""

    def __init__(self) -> None:
        self.lines: queue.Queue[HostState | Exception | None] = queue.Queue()
        self.reports: list[Report] = []
        self.refusals: list[Exception] = []
        self.told: list[dict[str, Total]] = []
        self.deaf: Exception | None = None  # what comes of telling counters
        self.polls = 0

    def poll(self) -> HostState | None:
        self.polls += 1
        line = self.lines.get()
        if isinstance(line, Exception):
            raise line
        return line

    def report(self, report: Report) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.reports.append(report)

    def count(self, totals: Mapping[str, Total]) -> None:
        self.told.append(dict(totals))
        if self.deaf is not None:
            raise self.deaf


def eventually(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until ``condition`` holds, at most 10 seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.002)


@contextmanager
def running(
    directory: Path, dataplane: FakeDataplane, channel: Script, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Agent]:
    """An agent in a thread of its own; nothing of it is left after the block. ``clock`` is that of counting."""
    drivers = Drivers({PortKind.ROUTER: dataplane})
    enforcer = Enforcer(drivers, StateFile(directory), retry=Backoff(0.02, 0.02))
    counting = Counting(drivers, Ledger(directory), clock=clock)
    agent = Agent(enforcer, channel, counting, backoff=lambda: Backoff(0.001, 0.001))
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield agent
    finally:
        dataplane.gate.set()
        agent.stop()
        channel.lines.put(Unreachable("the test is over"))
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def dataplane() -> Iterator[FakeDataplane]:
    made = FakeDataplane()
    yield made
    made.close()


def test_a_state_is_enforced_and_reported(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    with running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: channel.reports)

    assert dataplane.in_force == OLD
    assert channel.reports == [Report(generation=5, ports=(PortReport(port_id=uuid(1)),))]


def test_the_kept_state_is_enforced_before_the_api_is_asked_and_is_not_reported(tmp_path: Path, dataplane):
    StateFile(tmp_path).save(OLD)
    channel = Script()
    dataplane.gate.clear()
    with running(tmp_path, dataplane, channel):
        assert dataplane.busy.wait(10)
        assert channel.polls == 0
        dataplane.gate.set()
        eventually(lambda: channel.polls)
        assert dataplane.in_force == OLD
        channel.lines.put(None)
        eventually(lambda: channel.polls == 2)
        channel.lines.put(NEW)
        eventually(lambda: channel.reports)

    assert [report.generation for report in channel.reports] == [6]


def test_an_error_of_the_kept_state_that_heals_is_not_reported_either(tmp_path: Path, dataplane: FakeDataplane):
    StateFile(tmp_path).save(OLD)
    channel = Script()
    dataplane.errors[uuid(1)] = "no such device"
    with running(tmp_path, dataplane, channel):
        eventually(lambda: dataplane.applied)
        dataplane.errors.clear()
        tries = len(dataplane.applied)
        eventually(lambda: len(dataplane.applied) > tries)
        channel.lines.put(NEW)
        eventually(lambda: channel.reports)

    assert [report.generation for report in channel.reports] == [6]


def test_states_between_are_skipped_while_one_is_being_enforced(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    with running(tmp_path, dataplane, channel):
        dataplane.gate.clear()
        channel.lines.put(state(1))
        assert dataplane.busy.wait(10)
        for generation in range(2, 10):
            channel.lines.put(state(generation))
        eventually(lambda: channel.polls == 10)
        dataplane.gate.set()
        eventually(lambda: channel.reports and channel.reports[-1].generation == 9)

    assert [applied.generation for applied in dataplane.applied] == [1, 9]


def test_a_change_on_the_host_is_repaired_and_only_a_new_outcome_reported(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    with running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: channel.reports)
        dataplane.touch()
        eventually(lambda: len(dataplane.applied) == 2)
        dataplane.errors[uuid(1)] = "the device is gone"
        dataplane.touch()
        eventually(lambda: len(channel.reports) == 2)

    assert [report.ports[0].error for report in channel.reports] == [None, "the device is gone"]


def test_a_port_in_error_is_tried_again_until_it_is_realised(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    dataplane.errors[uuid(1)] = "no such device"
    with running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: len(dataplane.applied) >= 3)
        dataplane.errors.clear()
        eventually(lambda: len(channel.reports) == 2)

    assert [report.ports[0].error for report in channel.reports] == ["no such device", None]


def test_a_lost_api_is_said_once_and_changes_nothing(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    with capture_logs() as logs, running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: channel.reports)
        for _ in range(5):
            channel.lines.put(Unreachable("no route"))
        for _ in range(3):
            channel.lines.put(Refused("revoked"))
        channel.lines.put(NEW)
        eventually(lambda: len(channel.reports) == 2)

    said = [(log["event"], log.get("reason")) for log in logs if log["event"].startswith("api_")]
    assert said == [("api_lost", "no route"), ("api_lost", "revoked"), ("api_back", None)]
    assert dataplane.applied == [OLD, NEW]


def test_a_poll_that_fails_for_an_unknown_reason_does_not_end_the_agent(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    with running(tmp_path, dataplane, channel):
        channel.lines.put(RuntimeError("a bug"))
        channel.lines.put(OLD)
        eventually(lambda: channel.reports)


def test_a_report_that_did_not_arrive_is_sent_again(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    channel.refusals = [Unreachable("lost"), Unreachable("lost")]
    with running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: channel.reports)

    assert [report.generation for report in channel.reports] == [5]


def test_a_report_that_was_refused_is_dropped_and_the_next_one_is_sent(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    channel.refusals = [Refused("not your port")]
    with running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: not channel.refusals)
        channel.lines.put(NEW)
        eventually(lambda: channel.reports)

    assert [report.generation for report in channel.reports] == [6]


def test_the_last_report_is_said_again_when_it_is_quiet(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    with running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: len(channel.reports) == 1)
        channel.lines.put(None)
        eventually(lambda: len(channel.reports) == 2)

    assert channel.reports[0] == channel.reports[1]


def test_stopping_removes_nothing(tmp_path: Path, dataplane: FakeDataplane):
    channel = Script()
    with running(tmp_path, dataplane, channel):
        channel.lines.put(OLD)
        eventually(lambda: channel.reports)

    assert dataplane.in_force == OLD
    assert StateFile(tmp_path).load() == OLD


def test_counters_are_told_when_they_are_due_and_not_before(tmp_path: Path, dataplane: FakeDataplane):
    channel, now = Script(), [0.0]
    dataplane.counted = [Reading("x", {"r": Count(3, 30)})]
    StateFile(tmp_path).save(OLD)
    with running(tmp_path, dataplane, channel, clock=lambda: now[0]):
        eventually(lambda: len(dataplane.applied) == 1)
        dataplane.touch()
        eventually(lambda: len(dataplane.applied) == 2)
        assert channel.told == []
        now[0] += 10
        dataplane.touch()
        eventually(lambda: channel.told)
    assert [{rule: total.packets for rule, total in told.items()} for told in channel.told] == [{"r": 3}]


@pytest.mark.parametrize("error", [Refused("404"), Unreachable("away"), RuntimeError("odd")])
def test_a_server_that_takes_no_counters_gets_states_reported_as_ever(tmp_path: Path, dataplane, error: Exception):
    channel, now = Script(), [0.0]
    channel.deaf = error
    dataplane.counted = [Reading("x", {"r": Count(3, 30)})]
    with running(tmp_path, dataplane, channel, clock=lambda: now[0]):
        now[0] += 10
        dataplane.touch()
        eventually(lambda: channel.told)
        channel.lines.put(NEW)
        eventually(lambda: channel.reports)
    assert channel.reports[-1].generation == 6
