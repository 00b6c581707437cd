"""The row ``vm.connections``: how many TCP connections a second a client opens through a switch, one after the other.

The last of so many rules allows them at the server's port. The peer is the same switch without a firewall: NORMAL.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from benchmarks.row import Row, Skipped, figures
from benchmarks.vm_churn import portward
from benchmarks.workloads import workload
from portward.dataplane.netns import in_namespace
from portward.lab import Lab
from portward.lab.errors import LabError
from portward.model import TCP, Action, PortRange, Rule

_KEY, _PEER = "vm.connections", "NORMAL"
_SIZES = (10, 100, 1000, 10_000)
_PORT, _SECONDS, _REPEATS = 65_200, 1.0, 5
_LAST = Rule(
    id="00000000-0000-4000-8000-00000000feb0",
    action=Action.ALLOW,
    protocol=TCP,
    destination_port=PortRange(_PORT, _PORT),
)


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the row if it is ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: no root, or no Open vSwitch.
    """
    if not wanted(_KEY):
        return
    if os.geteuid() != 0:
        raise Skipped("switches and packets need root")
    for n in _SIZES:
        tell(f"{_KEY} n={n}")
        try:
            with Lab.create("bench", switch=True) as lab:
                lab.switch.ofctl("add-flow", lab.switch.bridge, "actions=NORMAL")
                peer = _rates(lab)
        except LabError as error:
            raise Skipped(str(error)) from error
        with Lab.create("bench", switch=True) as lab, portward(lab) as enforce:
            enforce((*workload("w1", n).policy.rules[: n - 1], _LAST))
            own = _rates(lab)
        yield Row(key=_KEY, unit="1/s", params={"n": n}, portward=figures(own), peers={_PEER: figures(peer)})


def _rates(lab: Lab) -> list[float]:
    """Connections a second from red to blue, a few times."""
    address = (str(lab.blue.address()), _PORT)
    with in_namespace(lab.blue.netns, lambda: socket.create_server(address, backlog=1024)) as server:
        thread = threading.Thread(target=_accept, args=(server,))
        thread.start()
        try:
            _opened(lab, address)  # caches are warm, and the neighbours known
            return [_opened(lab, address) / _SECONDS for _ in range(_REPEATS)]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _opened(lab: Lab, address: tuple[str, int]) -> int:
    def connect() -> int:
        count, end = 0, time.monotonic() + _SECONDS
        while time.monotonic() < end:
            with socket.create_connection(address, 5) as made:
                # A reset ends it: no port of the client stays taken.
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            count += 1
        return count

    return in_namespace(lab.red.netns, connect)


def _accept(server: socket.socket) -> None:
    with suppress(OSError):
        while True:
            server.accept()[0].close()
