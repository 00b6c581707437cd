"""Waiting for revalidators, against a control socket that answers as a switch may."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from portward.dataplane.openvswitch.vswitchd import Vswitchd, VswitchdError
from portward.dataplane.protocol import DataplaneError

Answering = Callable[[socket.socket, int], None]  # takes the connection and the request's id


@contextmanager
def switch(run_dir: Path, answer: Answering) -> Iterator[list[str]]:
    """The methods that were asked for, of a switch that answers each request by ``answer``."""
    asked: list[str] = []
    (run_dir / "ovs-vswitchd.pid").write_text(f"{os.getpid()}\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(run_dir / f"ovs-vswitchd.{os.getpid()}.ctl"))
        listening.listen()

        def serve() -> None:
            while True:
                try:
                    connection = listening.accept()[0]
                except OSError:
                    return  # the test is over
                with connection, suppress(OSError):  # whoever asked may be gone
                    while request := connection.recv(1 << 16):
                        message = json.loads(request)
                        asked.append(message["method"])
                        answer(connection, message["id"])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(**reply: object) -> Answering:
    return lambda connection, number: connection.sendall(json.dumps({"id": number} | reply).encode())


def wait(run_dir: Path, *, rounds: int = 2, nudge: Callable[[], None] = lambda: None) -> None:
    vswitchd = Vswitchd(run_dir)
    try:
        vswitchd.wait_for_revalidators(rounds, nudge)
    finally:
        vswitchd.close()


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_one_round_more_is_waited_for_as_the_first_to_end_may_have_begun_before(tmp_path: Path, rounds: int) -> None:
    nudges: list[int] = []
    with switch(tmp_path, says(result="", error=None)) as asked:
        wait(tmp_path, rounds=rounds, nudge=lambda: nudges.append(len(asked)))
    assert asked == ["revalidator/wait"] * (rounds + 1)
    assert len(nudges) >= rounds + 1


def test_an_answer_in_pieces_is_one(tmp_path: Path) -> None:
    def in_pieces(connection: socket.socket, number: int) -> None:
        for byte in json.dumps({"id": number, "result": "", "error": None}).encode():
            connection.sendall(bytes([byte]))

    with switch(tmp_path, in_pieces) as asked:
        wait(tmp_path)
    assert len(asked) == 3


def test_a_round_that_does_not_end_is_nudged_again(tmp_path: Path) -> None:
    nudged = threading.Semaphore(0)

    def after_three_nudges(connection: socket.socket, number: int) -> None:
        for _ in range(3):
            assert nudged.acquire(timeout=5)
        says(result="", error=None)(connection, number)

    with switch(tmp_path, after_three_nudges):
        wait(tmp_path, rounds=0, nudge=nudged.release)


@pytest.mark.parametrize(
    "answer",
    [
        says(result=None, error="can't wait on multiple udpifs."),
        says(result=None, error='"revalidator/wait" is not a valid command'),
        says(id=777, result="", error=None),
        lambda connection, _: connection.sendall(b"[1, 2]"),
        lambda connection, _: connection.sendall(b'"x"'),
        lambda connection, _: connection.shutdown(socket.SHUT_RDWR),
    ],
)
def test_any_other_answer_is_an_error_and_not_obedience(tmp_path: Path, answer: Answering) -> None:
    with switch(tmp_path, answer), pytest.raises(VswitchdError):
        wait(tmp_path)


def test_a_nudge_that_fails_is_told_and_the_next_wait_takes_no_old_answer(tmp_path: Path) -> None:
    def fail() -> None:
        raise DataplaneError("no such switch")

    with switch(tmp_path, says(result="", error=None)) as asked:
        vswitchd = Vswitchd(tmp_path)
        with pytest.raises(DataplaneError, match="no such switch"):
            vswitchd.wait_for_revalidators(2, fail)
        vswitchd.wait_for_revalidators(2, lambda: None)
        vswitchd.close()
    assert len(asked) == 4
