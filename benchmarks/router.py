"""The rows ``router.packet_cost``, ``new_connection``, ``one_way_udp`` and ``rejudge``: what a packet costs a router.

The packet factory sends; Portward is installed by its dataplane, peers by the texts of ``peers``. Each round measures
everything once, one after the other, so that a machine that gets slower gets slower for all.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from benchmarks.peers import IPTABLES, LINEAR, NOTHING, OWN, Peer, find_iptables, firewalls, iptables, tracking
from benchmarks.row import Row, Skipped, figures
from benchmarks.testbed import Router, router
from benchmarks.workloads import Workload, workload
from portward.model import Policy

#: Workloads and their numbers of rules.
CASES = [(name, n) for name in ("w1", "w2", "acl") for n in (10, 100, 1000, 3000 if name == "acl" else 10000)]
#: Says why a row has no such peer.
NO_IPTABLES = "the peer iptables, which is not installed, or which this kernel refuses"
_ROUNDS = 5
_FLOWS, _PACKETS = 20_000, 50_000
#: Packets measured where each costs tens of microseconds.
_SLOW_FLOWS, _SLOW_FROM = 2_000, 1000
_KEYS = ("router.packet_cost", "router.new_connection", "router.one_way_udp", "router.rejudge")

_Result = TypeVar("_Result")


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: this machine has no packet factory; or, at the end, the rows came without iptables.
    """
    keys = [key for key in _KEYS if wanted(key)]
    if not keys:
        return
    with router() as made, router() as apart:
        command = find_iptables(apart)
        for name, n in CASES:
            tell(f"router.* {name} n={n}")
            case = workload(name, n)
            peers = {peer: (made, firewall) for peer, firewall in firewalls(made, case.policy).items()}
            if command is not None:
                peers[IPTABLES] = apart, iptables(apart, command, case.policy)
            own = {covered: (made, _portward(made, case.policy, covered)) for covered in (1, 2)}
            costs = interleaved(
                {peer: partial(_costs, *at, case, peer) for peer, at in peers.items()}
                | {f"{OWN} {covered}": partial(_costs, *at, case, OWN) for covered, at in own.items()}
            )
            for key in keys:
                shown = {measured: figures([cost[key] for cost in each]) for measured, each in costs.items()}
                for covered in own:
                    yield Row(
                        key=key,
                        unit="ns",
                        params={"workload": name, "n": n, "covered": covered},
                        portward=shown[f"{OWN} {covered}"],
                        peers={peer: shown[peer] for peer in peers},
                    )
    if command is None:
        raise Skipped(NO_IPTABLES)


def interleaved(measures: Mapping[str, Callable[[], _Result]]) -> dict[str, list[_Result]]:
    """What each of ``measures`` gives, in rounds of one of each."""
    results: dict[str, list[_Result]] = {name: [] for name in measures}
    for _ in range(_ROUNDS):
        for name, measure in measures.items():
            results[name].append(measure())
    return results


def _portward(made: Router, policy: Policy, covered: int) -> Peer:
    @contextmanager
    def installed() -> Iterator[None]:
        made.protect(policy, covered)
        try:
            yield
        finally:
            made.protect(None)

    return installed


def _costs(made: Router, peer: Peer, case: Workload, name: str) -> dict[str, float]:
    """What each kind of packet costs behind ``peer``, by key.

    The answer to an accepted connection comes before, by a device of its own, since what drops packets cannot send
    them: a strict reverse path would refuse it. Peers know no changes: what follows one is just a further packet.
    """
    slow = name in (IPTABLES, LINEAR) and len(case.policy.rules) >= _SLOW_FROM
    with ExitStack() as answered:
        if name != NOTHING:
            answered.enter_context(tracking(made)())
            made.answer(case)
        with peer():
            answered.close()
            established = made.one_flow(case, _PACKETS)
            made.forget_connections()
            one_way = made.one_flow(case, _SLOW_FLOWS if slow else _PACKETS)
            flows = _SLOW_FLOWS if slow else _FLOWS
            first = made.first_packets(case, flows)
            if name == OWN:
                made.touch()
            return dict(zip(_KEYS, (established, first, one_way, made.again(case, flows)), strict=True))
