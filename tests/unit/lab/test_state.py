"""The file that remembers a lab."""

import stat
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest

from portward.lab import LabError, LabExists, NoSuchLab, plan, state
from portward.lab.state import FloatingIP, Process


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "DIRECTORY", tmp_path / "labs")
    return tmp_path / "labs"


def test_a_lab_is_remembered_as_it_was() -> None:
    lab = msgspec.structs.replace(
        plan("try", 3),
        floating_ips=(FloatingIP(IPv4Address("203.0.113.50"), IPv4Address("10.1.0.10")),),
        processes=(Process(1234, 5678),),
    )
    state.claim(plan("try", 3))
    state.save(lab)
    assert state.load("try") == lab
    assert state.names() == ["try"]


def test_a_lab_is_claimed_once() -> None:
    state.claim(plan("try", 2))
    with pytest.raises(LabExists, match="portward lab down try"):
        state.claim(plan("try", 2))


def test_only_root_can_read_the_file(directory: Path) -> None:
    state.claim(plan("try", 2))
    state.save(plan("try", 2))
    assert stat.S_IMODE((directory / "try.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_lab_that_is_not_up_is_named_with_those_that_are() -> None:
    state.claim(plan("try", 2))
    with pytest.raises(NoSuchLab, match="up: try"):
        state.load("other")


def test_a_damaged_file_is_an_error_that_says_which(directory: Path) -> None:
    state.claim(plan("try", 2))
    (directory / "try.json").write_text('{"name": 3')
    with pytest.raises(LabError, match=r"try\.json"):
        state.load("try")


def test_a_lab_that_is_forgotten_can_be_forgotten_again() -> None:
    state.claim(plan("try", 2))
    state.forget("try")
    state.forget("try")
    assert state.names() == []
