"""The rows ``compile.*``: what compiling takes, and what the lookup that comes out costs a packet by itself."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial

from benchmarks.peers import IPTABLES, LINEAR, OWN, lookups
from benchmarks.router import CASES, Router, interleaved, router
from benchmarks.row import Figures, Row, figures, recorded
from benchmarks.workloads import Workload, hard, workload
from portward.compiler import compile_rules
from portward.dataplane.nftables.layout import lay_out
from portward.dataplane.nftables.lists import Part
from portward.model import Rule, Stratum

_REPEATS = 5
_PACKETS, _SLOW_PACKETS, _SLOW_FROM = 200_000, 5_000, 1000
_PAIRWISE = recorded(60_000, source="pairwise Python at 10,000 rules, recorded, over 60 s")


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: this machine has no packet factory.
    """
    if wanted("compile.full"):
        for name in ("w1", "w2", "acl"):
            tell(f"compile.full {name}")
            yield _full(name, workload(name, 10_000).policy.rules)
        for name in ("wildcards", "nested", "ranges"):
            tell(f"compile.full {name}")
            yield _full(name, hard(name, 10_000))
    if wanted("compile.edit"):
        for name in ("w1", "w2", "acl"):
            tell(f"compile.edit {name}")
            yield Row(
                key="compile.edit",
                unit="ms",
                params={"workload": name, "n": 1000},
                portward=_edits(workload(name, 1000).policy.rules),
            )
    if wanted("compile.shape"):
        with router() as made:
            for name, n in CASES:
                tell(f"compile.shape {name} n={n}")
                yield _shape(made, name, n, workload(name, n))


def _full(name: str, rules: Sequence[Rule]) -> Row:
    return Row(
        key="compile.full",
        unit="ms",
        params={"workload": name, "n": len(rules)},
        portward=figures([_compiled(rules) for _ in range(_REPEATS)]),
        peers={"pairwise": _PAIRWISE},
    )


def _edits(rules: Sequence[Rule]) -> Figures:
    """A rule moved to another place, again and again: an edit compiles its policy, and no other."""
    places = range(0, len(rules), len(rules) // 20)
    return figures([_compiled([*rules[:place], *rules[place + 1 :], rules[place]]) for place in places])


def _compiled(rules: Sequence[Rule]) -> float:
    began = time.perf_counter()
    compile_rules(rules)
    return (time.perf_counter() - began) * 1000


def _shape(made: Router, name: str, n: int, case: Workload) -> Row:
    body = lay_out((Part(Stratum.TENANT, case.policy.id, case.policy.rules),)).text("rules", "refuse")
    refuse = "chain refuse {\ndrop\n}\n"
    peers = lookups(made, case.policy, refuse + body)

    def cost(peer: Callable[[], AbstractContextManager[None]], packets: int) -> float:
        with peer():
            return made.one_flow(case, packets)

    shown = interleaved(
        {
            peer: partial(cost, firewall, _SLOW_PACKETS if peer in (LINEAR, IPTABLES) and n >= _SLOW_FROM else _PACKETS)
            for peer, firewall in peers.items()
        }
    )
    own = shown.pop(OWN)
    return Row(key="compile.shape", unit="ns", params={"workload": name, "n": n}, portward=own, peers=shown)
