"""The rows ``compile.*``: what compiling takes, and what the lookup that comes out costs a packet by itself."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from benchmarks.peers import IPTABLES, LINEAR, OWN, Peer, find_iptables, iptables, lookups
from benchmarks.router import CASES, NO_IPTABLES, interleaved
from benchmarks.row import Figures, Row, Skipped, figures
from benchmarks.testbed import Router, router
from benchmarks.workloads import hard, workload
from portward.compiler import compile_rules
from portward.dataplane.lists import Part
from portward.dataplane.nftables.layout import lay_out
from portward.model import Prefix, Rule, Stratum

_REPEATS = 5
_PACKETS, _SLOW_PACKETS, _SLOW_FROM = 50_000, 2_000, 1000
_PAIRWISE = "pairwise Python"


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: this machine has no packet factory for the last of them; or, at the end, they came without iptables.
    """
    if wanted("compile.full"):
        for name in ("w1", "w2", "acl"):
            tell(f"compile.full {name}")
            yield _full(name, workload(name, 10_000).policy.rules, workload(name, 1000).policy.rules)
        for name in ("wildcards", "nested", "ranges"):
            tell(f"compile.full {name}")
            yield _full(name, hard(name, 10_000), hard(name, 1000))
    if wanted("compile.edit"):
        for name in ("w1", "w2", "acl"):
            tell(f"compile.edit {name}")
            rules = workload(name, 1000).policy.rules
            yield Row(
                key="compile.edit",
                unit="ms",
                params={"workload": name, "n": len(rules)},
                portward=_edits(rules),
                peers={_PAIRWISE: _pairwise(rules)},
            )
    if wanted("compile.shape"):
        with router() as made, router() as apart:
            command = find_iptables(apart)
            for name, n in CASES:
                tell(f"compile.shape {name} n={n}")
                yield _shape(made, (apart, command), name, n)
        if command is None:
            raise Skipped(NO_IPTABLES)


def _full(name: str, rules: Sequence[Rule], tenth: Sequence[Rule]) -> Row:
    return Row(
        key="compile.full",
        unit="ms",
        params={"workload": name, "n": len(rules)},
        portward=figures([_compiled(rules) for _ in range(_REPEATS)]),
        peers={_PAIRWISE: _pairwise(tenth, times=100)},
    )


def _edits(rules: Sequence[Rule]) -> Figures:
    """A rule moved to another place, again and again: an edit compiles its policy, and no other."""
    places = range(0, len(rules), len(rules) // 20)
    return figures([_compiled([*rules[:place], *rules[place + 1 :], rules[place]]) for place in places])


def _compiled(rules: Sequence[Rule]) -> float:
    began = time.perf_counter()
    compile_rules(rules)
    return (time.perf_counter() - began) * 1000


def _pairwise(rules: Sequence[Rule], times: int = 1) -> Figures:
    """What the plain way takes, which compares each rule with all before it; ``times`` that, if for more rules."""
    values = []
    for _ in range(3):
        began = time.perf_counter()
        _layers(rules)
        values.append((time.perf_counter() - began) * 1000 * times)
    shown = figures(values)
    source = f"measured at {len(rules):,} rules, times {times}"
    return shown if times == 1 else msgspec.structs.replace(shown, source=source)


def _layers(rules: Sequence[Rule]) -> list[int]:
    """How many rules at least must be looked at before each: one more than any earlier rule that it overlaps."""
    layers: list[int] = []
    boxes: list[tuple[int, ...]] = []
    for rule in rules:
        a, b, c, d, e, f, g, h = box = _box(rule)
        layer = 0
        for earlier, (i, j, k, m, n, o, p, q) in zip(layers, boxes, strict=True):
            if a <= j and i <= b and c <= m and k <= d and e <= o and n <= f and g <= q and p <= h:
                layer = max(layer, earlier + 1)
        layers.append(layer)
        boxes.append(box)
    return layers


def _box(rule: Rule) -> tuple[int, ...]:
    """First and last source, destination, destination port and protocol of IPv4 packets that ``rule`` matches."""
    ports, protocol = rule.destination_port, rule.protocol
    return (
        *_ends(rule.source),
        *_ends(rule.destination),
        *((ports.first, ports.last) if ports is not None else (0, 65535)),
        *((protocol, protocol) if protocol is not None else (0, 255)),
    )


def _ends(network: Prefix | None) -> tuple[int, int]:
    return (int(network[0]), int(network[-1])) if network is not None else (0, 2**32 - 1)


def _shape(made: Router, beside: tuple[Router, str | None], name: str, n: int) -> Row:
    case = workload(name, n)
    body = lay_out((Part(Stratum.TENANT, case.policy.id, case.policy.rules),)).text("rules", "refuse", {})
    refuse = "chain refuse {\ndrop\n}\n"
    apart, command = beside
    peers = {peer: (made, firewall) for peer, firewall in lookups(made, case.policy, refuse + body).items()}
    if command is not None:
        peers[IPTABLES] = apart, iptables(apart, command, case.policy, tracked=False)

    def cost(place: Router, peer: Peer, packets: int) -> float:
        with peer():
            return place.one_flow(case, packets)

    costs = interleaved(
        {
            peer: partial(cost, *at, _SLOW_PACKETS if peer in (LINEAR, IPTABLES) and n >= _SLOW_FROM else _PACKETS)
            for peer, at in peers.items()
        }
    )
    shown = {peer: figures(each) for peer, each in costs.items()}
    own = shown.pop(OWN)
    return Row(key="compile.shape", unit="ns", params={"workload": name, "n": n}, portward=own, peers=shown)
