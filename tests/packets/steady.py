"""Traffic all the time, while something fails: what is allowed loses no packet, what is denied leaks none."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from portward.lab import Count, Lab, Stream

#: Packets a second that are denied and allowed throughout. A switch in userspace loses what comes while it gets no
#: processor, but for the 90 packets or so that a socket of it holds: at these rates, half a second on a busy machine.
RATES = {"router": (3_000, 3_000), "vm": (80, 80)}
_FEWEST = 10


@contextmanager
def steady(lab: Lab, kind: str, *, allowed: Collection[int], denied: Collection[int]) -> Iterator[None]:
    """UDP from red to blue in the block, to each port by one connection and, of every second port, by ever new ones.

    At its end all of ``allowed`` arrived that was sent, and none of ``denied``.
    """
    denied_rate, allowed_rate = RATES[kind]
    with _stream(lab, denied, denied_rate) as stopped, _stream(lab, allowed, allowed_rate) as passing:
        yield
        for stream, all_of_it in ((stopped, False), (passing, True)):
            counts = stream.stop()
            told = [f"{flow.port}: {count.received}/{count.sent}" for flow, count in _each(stream, counts)]
            print(f"received/sent of each flow: {', '.join(told)}")
            assert all(count.sent > _FEWEST for count in counts)
            for flow, count in _each(stream, counts):
                assert count.received == (count.sent if all_of_it else 0), flow


def _stream(lab: Lab, ports: Collection[int], rate: int) -> Stream:
    flows = [
        lab.red.flow(lab.blue.address(version), port, source_port=None if number % 2 else 40_000 + number)
        for version in (4, 6)
        for number, port in enumerate(ports)
    ]
    return lab.red.stream(flows, rate=rate)


def _each(stream: Stream, counts: list[Count]) -> Iterator[tuple[object, Count]]:
    return zip(stream.flows, counts, strict=True)
