"""The state on disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from portward.agent.state_file import AgentRunning, StateFile, StateFileError
from unit.agent.values import covered, policy, state

STATE = state(5, covered(1, 7), covered(2), policies=(policy(7),))


def test_what_was_saved_is_loaded(tmp_path: Path):
    StateFile(tmp_path).save(STATE)

    assert StateFile(tmp_path).load() == STATE


def test_nothing_was_saved(tmp_path: Path):
    assert StateFile(tmp_path).load() is None


def test_only_the_owner_may_read_it(tmp_path: Path):
    old = os.umask(0)
    try:
        file = StateFile(tmp_path / "a" / "state")
        file.save(STATE)
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "state" / "state.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("length", [0, 1, 50, -1, -100])
def test_a_file_that_was_cut_short_is_not_used(tmp_path: Path, length: int):
    StateFile(tmp_path).save(STATE)
    path = tmp_path / "state.json"
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(StateFileError, match="damaged"):
        StateFile(tmp_path).load()


@pytest.mark.parametrize(("was", "is_"), [(b'"allow"', b'"deny"'), (b"eth0", b"eth1"), (b'"sha256":"', b'"sha256":"0')])
def test_a_file_in_which_one_value_changed_is_not_used(tmp_path: Path, was: bytes, is_: bytes):
    StateFile(tmp_path).save(STATE)
    path = tmp_path / "state.json"
    assert was in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(was, is_, 1))

    with pytest.raises(StateFileError, match="damaged"):
        StateFile(tmp_path).load()


def test_a_save_that_was_interrupted_leaves_the_one_before(tmp_path: Path):
    StateFile(tmp_path).save(STATE)
    (tmp_path / "state.new").write_bytes(b"half of it")

    assert StateFile(tmp_path).load() == STATE
    StateFile(tmp_path).save(state(6))
    assert StateFile(tmp_path).load() == state(6)


def test_a_save_that_fails_does_not_leave_an_older_state_to_go_back_to(tmp_path: Path):
    file = StateFile(tmp_path)
    file.save(STATE)
    (tmp_path / "state.new").symlink_to(tmp_path / "elsewhere")  # is not followed, so the save fails

    with pytest.raises(StateFileError, match="cannot be written"):
        file.save(state(6))
    assert file.load() is None
    assert not (tmp_path / "elsewhere").exists()


def test_removing_twice_is_no_error(tmp_path: Path):
    file = StateFile(tmp_path)
    file.save(STATE)

    file.remove()
    file.remove()

    assert file.load() is None


def test_a_second_agent_is_told_that_one_runs(tmp_path: Path):
    with StateFile(tmp_path).held(), pytest.raises(AgentRunning, match=str(tmp_path)), StateFile(tmp_path).held():
        pass
    with StateFile(tmp_path).held():
        pass


def test_the_directory_is_free_again_when_its_holder_was_killed(tmp_path: Path):
    program = (
        "import os, sys, pathlib; from portward.agent.state_file import StateFile\n"
        "with StateFile(pathlib.Path(sys.argv[1])).held(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AgentRunning), StateFile(tmp_path).held():
            pass
        holder.kill()
    with StateFile(tmp_path).held():
        pass


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StateFileError, match="state_dir"):
        StateFile(tmp_path / "file" / "state")
