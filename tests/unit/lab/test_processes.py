"""Processes are known again by when they started."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from portward.lab.errors import LabError
from portward.lab.processes import identify, kill
from portward.lab.state import Process


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as made:
        yield made
        made.kill()


def test_a_process_that_is_known_again_is_ended(child: subprocess.Popen[bytes]) -> None:
    kill(identify(child.pid))
    assert child.wait(timeout=5) == -9


def test_a_process_that_started_at_another_time_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    known = identify(child.pid)
    kill(Process(known.pid, known.started + 1))
    assert child.poll() is None
    assert identify(child.pid) == known


def test_a_process_that_is_gone_may_be_ended_again(child: subprocess.Popen[bytes]) -> None:
    known = identify(child.pid)
    kill(known)
    child.wait(timeout=5)
    kill(known)


def test_a_process_that_is_gone_cannot_be_identified(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait(timeout=5)
    with pytest.raises(LabError, match=str(child.pid)):
        identify(child.pid)
