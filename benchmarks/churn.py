"""The rows ``router.wrong_packets`` and ``router.cut``: what traffic notices while a policy of 1,000 rules changes.

Lost: allowed before and after a change, and not arrived. Leaked: denied before and after, and arrived. Late: sent after
the change was realised, and decided by the old policy. All three are counted by nft, at both ends. Cut: the longest
silence, beyond that of its sender, in a connection that every policy allows and in which the server alone speaks.
The peer replaces its table in one transaction and, for the second row, then empties the connection table. What the
machine does to a connection by being busy is measured too: the same work, with nothing installed.
"""

import itertools
import os
import random
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from typing import NamedTuple, TypeVar

from benchmarks.row import Row, Skipped, figures
from benchmarks.workloads import workload
from portward.dataplane.lists import Part
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.layout import lay_out
from portward.dataplane.nftables.libnftables import Nft
from portward.dataplane.nftables.netlink import ACK, NETFILTER, Netlink
from portward.lab import Lab
from portward.lab.counters import Counters, Place
from portward.model import UDP, Action, CoveredPort, Group, HostState, Policy, PortRange, Rule, Stratum

_WRONG, _CUT = "router.wrong_packets", "router.cut"
CHANGES, RULES, _RATE = 200, 1000, 20_000
#: Destination ports that no other rule names; the last of each ten is that of new connections.
_ALLOWED, _DENIED, _TURNED, _PUSHED = range(65100, 65110), range(65110, 65120), 65200, 65201
_SOURCE = 4000
#: Packets after a change, on the old connection and on a new one.
_AFTER = 10
_PUSH_INTERVAL, _KEEPALIVE = 0.001, 1.0  # seconds
_PATIENCE = 10.0  # seconds
_UNDER_WAY = 0.5  # seconds that a packet may take through a switch that rebuilds its cache
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_DELETE_CONNECTIONS = 1 << 8 | 2  # linux/netfilter/nfnetlink_conntrack.h
_PEER = "one transaction"
ID = str(uuid.UUID(int=1))

#: Puts rules in force at the router's port to blue, for packets to it; none are for packets from it.
Enforce = Callable[[tuple[Rule, ...]], None]
Firewall = Callable[[Lab], AbstractContextManager[Enforce]]
_Result = TypeVar("_Result")


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: the caller is not root.
    """
    if not (wanted(_WRONG) or wanted(_CUT)):
        return
    if os.geteuid() != 0:
        raise Skipped("routers and packets need root")
    params = {"n": RULES, "changes": CHANGES}
    if wanted(_WRONG):
        tell(f"{_WRONG} portward")
        own = _measured(_portward, count_wrong)
        tell(f"{_WRONG} {_PEER}")
        peer = _measured(_one_transaction, count_wrong)
        for what in Wrong._fields:
            yield Row(
                key=_WRONG,
                unit="packets",
                params={**params, "rate": _RATE, "what": what},
                portward=figures([getattr(own, what)]),
                peers={_PEER: figures([getattr(peer, what)])},
            )
    if wanted(_CUT):
        tell(f"{_CUT} portward")
        gap = _measured(_portward, _longest_gap)
        tell(f"{_CUT} conntrack flush")
        flushed = _measured(_flushing, _longest_gap)
        tell(f"{_CUT} nothing installed")
        unchanged = _measured(_not_installing, _longest_gap)
        yield Row(
            key=_CUT,
            unit="ms",
            params=params,
            portward=figures([gap]),
            peers={"conntrack flush": figures([flushed]), "compiled, not installed": figures([unchanged])},
        )


class Wrong(NamedTuple):
    """Packets that were treated as no policy in force said."""

    lost: int
    leaked: int
    late: int


def _measured(firewall: Firewall, measure: Callable[[Lab, Enforce], _Result]) -> _Result:
    with Lab.create("bench") as lab, firewall(lab) as enforce:
        return measure(lab, enforce)


def _changes() -> Iterator[tuple[bool, tuple[Rule, ...]]]:
    """Rules, and whether they allow the port that each change turns; the one that does is at any place."""
    chance = random.Random(RULES)
    always = [_rule(Action.DENY, port) for port in _DENIED]
    always += [_rule(Action.ALLOW, port) for port in (*_ALLOWED, _PUSHED)]
    rules = [*always, *workload("w2", RULES - len(always) - 1).policy.rules]
    turned = _rule(Action.ALLOW, _TURNED)
    for number in range(CHANGES + 1):
        place = chance.randrange(len(rules))
        yield (True, (*rules[:place], turned, *rules[place:])) if number % 2 else (False, tuple(rules))


def _rule(action: Action, port: int) -> Rule:
    return Rule(id=str(uuid.UUID(int=port)), action=action, protocol=UDP, destination_port=PortRange(port, port))


def count_wrong(
    lab: Lab,
    enforce: Enforce,
    rate: int = _RATE,
    *,
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Wrong:
    """What becomes of traffic at ``rate`` packets a second, from red to blue, while rules change under ``enforce``.

    ``beside`` is what goes on meanwhile.
    """
    changes = _changes()
    enforce(next(changes)[1])
    blue = lab.blue.address()
    flows = [
        lab.red.flow(blue, port, source_port=None if port == ports[-1] else _SOURCE)
        for ports in (_ALLOWED, _DENIED)
        for port in ports
    ]
    late = arrived = 0
    with ExitStack() as stack:
        stack.enter_context(beside())
        counter = Counters(lab.blue.netns, Place.ARRIVED, {"turned": f"udp dport {_TURNED}"}, drop=True)
        stack.callback(counter.remove)
        old = stack.enter_context(in_namespace(lab.red.netns, _udp))
        stream = stack.enter_context(lab.red.stream(flows, rate=rate))
        for allowed, rules in changes:
            enforce(rules)
            with in_namespace(lab.red.netns, _udp) as new:
                for number in range(2 * _AFTER):
                    (old, new)[number % 2].sendto(b"x", (str(blue), _TURNED))
            wanted = 2 * _AFTER * allowed
            before, arrived = arrived, counter.packets()["turned"]
            patience = time.monotonic() + _UNDER_WAY
            while arrived - before != wanted and time.monotonic() < patience:  # or it is still under way
                time.sleep(0.02)
                arrived = counter.packets()["turned"]
            late += abs(arrived - before - wanted)
        counts = stream.stop()
    allowed_counts, denied_counts = counts[: len(_ALLOWED)], counts[len(_ALLOWED) :]
    if not all(count.received for count in allowed_counts):
        raise RuntimeError("what every policy allows does not get through")
    lost = sum(count.sent - count.received for count in allowed_counts)
    return Wrong(lost, sum(count.received for count in denied_counts), late)


def _longest_gap(lab: Lab, enforce: Enforce) -> float:
    changes = _changes()
    enforce(next(changes)[1])
    with in_namespace(lab.red.netns, _udp) as client, in_namespace(lab.blue.netns, _udp) as server:
        server.bind((str(lab.blue.address()), _PUSHED))
        client.connect((str(lab.blue.address()), _PUSHED))
        client.send(b"hello")
        server.settimeout(_PATIENCE)
        server.connect(server.recvfrom(64)[1])
        with _Push(server, client) as push:
            for _, rules in changes:
                enforce(rules)
            time.sleep(2 * _KEEPALIVE)  # a connection that was cut last is heard again
        return push.longest_gap()


class _Push:
    """A server that sends all the time, and when its packets left and arrived; the client says hello now and then."""

    def __init__(self, server: socket.socket, client: socket.socket) -> None:
        self._server, self._client = server, client
        self._sent: list[float] = []
        self._arrived: list[tuple[int, float]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=target) for target in (self._send, self._receive)]
        client.settimeout(_KEEPALIVE / 10)

    def __enter__(self) -> "_Push":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def longest_gap(self) -> float:
        """Milliseconds between two packets that arrived one after the other, less those until the next was sent."""
        pairs = itertools.pairwise(self._arrived)
        return 1000 * max(
            later - earlier - (self._sent[number + 1] - self._sent[number]) for (number, earlier), (_, later) in pairs
        )

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(_PUSH_INTERVAL):
            self._sent.append(time.clock_gettime(time.CLOCK_REALTIME))
            self._server.send(number.to_bytes(4, "big"))
            number += 1

    def _receive(self) -> None:
        """Arrival is what the kernel says: this thread may come late."""
        self._client.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        greeted = time.monotonic()
        while not self._stop.is_set():
            if time.monotonic() - greeted > _KEEPALIVE:
                greeted = time.monotonic()
                self._client.send(b"hello")
            with suppress(TimeoutError):
                content, ancillary, _, _ = self._client.recvmsg(64, 64)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                self._arrived.append((int.from_bytes(content, "big"), seconds + nanoseconds / 1e9))


def _flush() -> None:
    with Netlink(NETFILTER) as netlink:
        netlink.request(_DELETE_CONNECTIONS, bytes(4), ACK)


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@contextmanager
def _portward(lab: Lab) -> Iterator[Enforce]:
    generations = itertools.count(1)
    group = Group(id=ID, ingress_policy_id=ID)
    port = CoveredPort(port=lab.port("blue").to_model(), groups=(group,))
    with closing(NftablesDataplane()) as dataplane:

        def enforce(rules: tuple[Rule, ...]) -> None:
            generation = next(generations)
            policy = Policy(id=ID, version=generation, rules=rules)
            report = dataplane.apply(HostState(generation=generation, ports=(port,), policies=(policy,)))
            if report.ports[0].error:
                raise RuntimeError(report.ports[0].error)

        yield enforce


@contextmanager
def _one_transaction(lab: Lab, *, base: tuple[str, ...] = ()) -> Iterator[Enforce]:
    """The same lists in a table that each change replaces as a whole, in one transaction."""
    device = lab.port("blue").device
    lines = [*base, f'oifname "{device}" jump rules', f'iifname "{device}" drop', "accept"]
    hook = "type filter hook forward priority filter; policy drop;"
    with in_namespace(lab.router_netns, Nft) as nft:

        def enforce(rules: tuple[Rule, ...]) -> None:
            lists = lay_out((Part(Stratum.TENANT, ID, rules),)).text("rules", "refuse", {})
            table = f"chain forward {{\n{hook}\n" + "\n".join(lines) + "\n}\nchain refuse {\ndrop\n}\n" + lists
            nft.run(f"table inet peer {{}}\ndelete table inet peer\ntable inet peer {{\n{table}}}\n")

        yield enforce


@contextmanager
def _flushing(lab: Lab) -> Iterator[Enforce]:
    """A firewall that knows connections, and forgets them all with each change."""
    with _one_transaction(lab, base=("ct state established,related accept",)) as replace:

        def enforce(rules: tuple[Rule, ...]) -> None:
            replace(rules)
            in_namespace(lab.router_netns, _flush)

        yield enforce


@contextmanager
def _not_installing(lab: Lab) -> Iterator[Enforce]:
    """Portward with the first rules for ever; all others are compiled alone."""
    with _portward(lab) as first:
        calls = itertools.count()

        def enforce(rules: tuple[Rule, ...]) -> None:
            if next(calls) == 0:
                first(rules)
            else:
                lay_out((Part(Stratum.TENANT, ID, rules),)).text("rules", "refuse", {})

        yield enforce
