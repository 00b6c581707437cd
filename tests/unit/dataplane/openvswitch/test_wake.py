"""One descriptor over sockets, a timer, and a directory that may not be there yet."""

import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portward.dataplane.openvswitch.wake import Wake


@pytest.fixture
def wake(tmp_path: Path) -> Iterator[Wake]:
    made = Wake(tmp_path / "run")
    yield made
    made.close()


def is_readable(wake: Wake, *, within: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(wake.fileno(), select.POLLIN)
    return poll.poll(1000 * within) != []


def wait_for(wake: Wake, *sockets: socket.socket) -> None:
    wake.begin()
    for each in sockets:
        wake.fd_wait(each, select.POLLIN)
    wake.end()


def test_a_file_made_in_the_directory_wakes_once(wake: Wake, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert wake.look()
    while wake.look():
        pass  # the watch of the parent, which is no longer wanted, says that it ends
    assert not is_readable(wake)
    (tmp_path / "run" / "db.sock").touch()
    assert is_readable(wake, within=5)
    assert wake.look()
    assert not is_readable(wake)
    assert not wake.look()


def test_the_directory_may_come_go_and_come_again(wake: Wake, tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "run").mkdir()
        assert is_readable(wake, within=5)
        while wake.look():
            pass
        (tmp_path / "run" / "db.sock").touch()
        assert is_readable(wake, within=5)
        (tmp_path / "run" / "db.sock").unlink()
        (tmp_path / "run").rmdir()
        while wake.look():
            pass
        assert not is_readable(wake)


def test_what_is_made_beside_the_directory_wakes_nobody(wake: Wake, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    while wake.look():
        pass
    (tmp_path / "other").mkdir()
    assert not is_readable(wake)


def test_a_socket_wakes_while_it_is_waited_for(wake: Wake) -> None:
    near, far = socket.socketpair()
    with near, far:
        wait_for(wake, near)
        assert not is_readable(wake)
        far.send(b"x")
        assert is_readable(wake, within=5)
        wait_for(wake)
        assert not is_readable(wake)


def test_a_new_socket_with_the_number_of_an_old_one_wakes(wake: Wake) -> None:
    near, far = socket.socketpair()
    wait_for(wake, near)
    number = near.fileno()
    near.close()
    far.close()
    near, far = socket.socketpair()
    with near, far:
        if near.fileno() != number:
            os.dup2(near.fileno(), number)
        wait_for(wake, near)
        far.send(b"x")
        assert is_readable(wake, within=5)


def test_the_earliest_of_the_times_wakes(wake: Wake) -> None:
    wake.begin()
    wake.timer_wait(60_000)
    wake.timer_wait(30)
    wake.end()
    began = time.monotonic()
    assert is_readable(wake, within=5)
    assert 0.02 < time.monotonic() - began < 3
    wait_for(wake)
    assert not is_readable(wake)


def test_again_wakes_until_the_next_end(wake: Wake) -> None:
    wake.again()
    assert is_readable(wake, within=5)
    wait_for(wake)
    assert not is_readable(wake)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        Wake(tmp_path).close()
    assert len(os.listdir("/proc/self/fd")) == before
