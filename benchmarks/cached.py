"""A switch whose cache is full: frames of a machine from as many source MACs as there shall be cached flows.

They are nobody's MACs, so each frame is dropped, and each MAC is a flow of its own in the cache. A cached flow that is
idle for ten seconds goes, so they are sent all the time.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from portward.dataplane.netns import in_namespace
from portward.lab import Lab

_ROUND, _BURST = 7.0, 100  # seconds in which each MAC is heard once; frames sent in a row
_PATIENCE = 60.0
#: An IPv4 header, behind its EtherType: UDP from 192.0.2.1 to 192.0.2.2; and room for the rest.
_PACKET = bytes.fromhex("08004500002e 00000000 40110000 c0000201 c0000202")


@contextmanager
def cached_flows(lab: Lab, count: int) -> Iterator[None]:
    """About ``count`` flows in the cache of the lab's switch, as long as the block runs; 0: those that there are.

    Raises:
        RuntimeError: they do not get there.
    """
    if not count:
        yield
        return
    stop = threading.Event()
    with in_namespace(lab.red.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as raw:
        in_namespace(lab.red.netns, lambda: raw.bind((lab.red.device, 0)))
        thread = threading.Thread(target=_send, args=(raw, count, stop))
        thread.start()
        try:
            deadline = time.monotonic() + _PATIENCE
            while _current(lab) < 0.9 * count:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the switch caches {_current(lab)} flows, not {count}")
                time.sleep(0.2)
            yield
        finally:
            stop.set()
            thread.join()


def _send(raw: socket.socket, count: int, stop: threading.Event) -> None:
    to, rest = b"\x02\x98" + bytes(4), _PACKET + bytes(26)
    frames = [to + b"\x02\x99" + number.to_bytes(4, "big") + rest for number in range(count)]
    while True:
        for start in range(0, count, _BURST):
            if stop.wait(_ROUND * _BURST / count):
                return
            for frame in frames[start : start + _BURST]:
                raw.send(frame)


def _current(lab: Lab) -> int:
    found = re.search(r"current (\d+)", lab.switch.appctl("upcall/show"))
    return int(found[1]) if found else 0
