"""Draws what a packet costs over the number of rules, as SVG: two charts, both axes logarithmic.

Plain text, put together here: a picture of a dozen lines needs no library. Only rows of this run are drawn.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from benchmarks.row import Row

_WIDTH, _HEIGHT = 900, 400
_LEFT, _TOP, _CHART, _TALL, _GAP = 70, 70, 310, 260, 110
_COLOURS = {
    "portward": "#c2410c",
    "connection tracking alone": "#475569",
    "no firewall": "#94a3b8",
    "iptables": "#2563eb",
    "nft linear": "#7c3aed",
}
_CHARTS = (("router.new_connection", "a new connection"), ("router.packet_cost", "a packet of an accepted connection"))
_STYLE = "font-family='system-ui, sans-serif' font-size='12'"

Line = list[tuple[float, float]]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the picture of ``rows`` to ``path``; without rows of packets, leave it as it is."""
    charts = [(title, _lines(row for row in rows if row.key == key)) for key, title in _CHARTS]
    if not all(lines for _, lines in charts):
        return
    costs = [cost for _, lines in charts for line in lines.values() for _, cost in line]
    low, high = 10 ** math.floor(math.log10(min(costs))), 10 ** math.ceil(math.log10(max(costs)))
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' {_STYLE}>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='white'/>",
        f"<text x='{_LEFT}' y='24' font-size='15' font-weight='600'>Nanoseconds that a packet costs a router</text>",
        *_legend(),
    ]
    for number, (title, lines) in enumerate(charts):
        parts += _chart(_LEFT + number * (_CHART + _GAP), title, lines, low, high)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>\n"]))


def _lines(rows: Iterable[Row]) -> dict[str, Line]:
    """By name, numbers of rules and costs: exact rules (w1), one covered port."""
    lines: dict[str, Line] = {}
    for row in rows:
        if row.params["workload"] == "w1" and row.params["covered"] == 1:
            for name, shown in {"portward": row.portward, **row.peers}.items():
                lines.setdefault(name, []).append((row.params["n"], shown.median))
    return lines


def _legend() -> list[str]:
    parts, x = list[str](), float(_LEFT)
    for name, colour in _COLOURS.items():
        parts.append(f"<line x1='{x}' y1='46' x2='{x + 22}' y2='46' stroke='{colour}' stroke-width='{_thick(name)}'/>")
        parts.append(f"<text x='{x + 28}' y='50'>{escape(name)}</text>")
        x += 60 + 6.4 * len(name)
    return parts


def _thick(name: str) -> int:
    return 4 if name == "portward" else 2


def _chart(left: float, title: str, lines: dict[str, Line], low: float, high: float) -> list[str]:
    sizes = sorted({n for line in lines.values() for n, _ in line})

    def x(n: float) -> float:
        return left + _CHART * (math.log10(n / sizes[0]) / math.log10(sizes[-1] / sizes[0]))

    def y(cost: float) -> float:
        return _TOP + _TALL * (1 - math.log10(cost / low) / math.log10(high / low))

    bottom = _TOP + _TALL
    parts = [f"<text x='{left + _CHART / 2}' y='{bottom + 54}' text-anchor='middle' font-weight='600'>{title}</text>"]
    parts.append(f"<text x='{left + _CHART / 2}' y='{bottom + 36}' text-anchor='middle'>rules</text>")
    cost = low
    while cost <= high:
        at = round(y(cost), 1)
        parts.append(f"<line x1='{left}' y1='{at}' x2='{left + _CHART}' y2='{at}' stroke='#e2e8f0'/>")
        parts.append(f"<text x='{left - 8}' y='{at + 4}' text-anchor='end'>{cost:,.0f}</text>")
        cost *= 10
    parts += [f"<text x='{x(n):.1f}' y='{bottom + 18}' text-anchor='middle'>{n:,.0f}</text>" for n in sizes]
    for name, line in lines.items():
        points = " ".join(f"{x(n):.1f},{y(cost):.1f}" for n, cost in line)
        look = f"fill='none' stroke='{_COLOURS[name]}' stroke-width='{_thick(name)}'"
        parts.append(f"<polyline points='{points}' {look}><title>{escape(name)}</title></polyline>")
    return parts
