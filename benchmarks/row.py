"""A row of the result: one figure of Portward, with those of its peers beside it.

Written as JSON for programs and as a table for people. What it refuses: to compare figures of different units.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

_PACKAGES = ("portward", "sqlalchemy", "starlette", "uvicorn", "psycopg")


class Skipped(Exception):
    """Rows, or peers in them, that this machine cannot measure; the message says which, and why."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What ``n`` measurements gave. ``source`` says where, if not in this run."""

    median: float
    min: float
    max: float
    n: int
    p99: float | msgspec.UnsetType = msgspec.UNSET
    source: str | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured thing; ``peers`` in the order that counts, the first being the one ``ratio`` refers to."""

    key: str
    unit: str
    params: dict[str, Any]
    portward: Figures
    peers: dict[str, Figures] = {}

    @property
    def ratio(self) -> float | None:
        """Portward's median divided by the first peer's, where that is not 0."""
        first = next(iter(self.peers.values()), None)
        return None if first is None or not first.median else round(self.portward.median / first.median, 4)


def figures(values: Sequence[float], *, tail: bool = False) -> Figures:
    """The figures of ``values``, rounded to 4 digits after the point; with a ``tail``, also what 99 % stay below."""
    ordered = sorted(values)
    return Figures(
        median=round(statistics.median(values), 4),
        min=round(ordered[0], 4),
        max=round(ordered[-1], 4),
        n=len(values),
        p99=round(ordered[(99 * len(ordered) + 99) // 100 - 1], 4) if tail else msgspec.UNSET,
    )


def recorded(low: float, high: float | None = None, *, source: str) -> Figures:
    """Figures that a peer showed elsewhere, as one value or a range; ``n`` 0, since nothing was measured here."""
    top = low if high is None else high
    return Figures(median=round((low + top) / 2, 4), min=low, max=top, n=0, source=source)


def write_json(rows: Sequence[Row], path: Path, *, keep: bool = False) -> None:
    """Store ``rows``, and on what they were measured, in ``path``; ``keep``: beside its rows of other keys.

    Raises:
        Skipped: these were measured elsewhere.
    """
    on = {
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "python": sys.version.split()[0]},
        "versions": {name: version(name) for name in _PACKAGES} | dict(_tools()),
    }
    kept: list[Any] = []
    if keep:
        before = msgspec.json.decode(path.read_bytes())
        if {name: before[name] for name in on} != on:
            raise Skipped(f"{path} was measured on another machine or with other versions: measure all of it anew")
        kept = [row for row in before["rows"] if row["key"] not in {row.key for row in rows}]
    content = {
        **on,
        "rows": kept + [msgspec.to_builtins(row) | {"ratio": row.ratio} for row in rows],
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def _tools() -> Iterator[tuple[str, str]]:
    for command in ("nft", "iptables-legacy", "iptables-nft"):
        path = shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path is not None:
            yield (
                command,
                subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip(),
            )


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Show ``rows`` to people."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("what", "with", "unit", "peer"):
        table.add_column(column, no_wrap=column != "peer", overflow="fold")
    for column in ("median", "p99", "min", "max", "n", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        peers = "; ".join(f"{name} {_range(peer)}" for name, peer in row.peers.items())
        own = row.portward
        params = " ".join(f"{name}={value}" for name, value in row.params.items())
        tail = "" if own.p99 is msgspec.UNSET else f"{own.p99:.2f}"
        numbers = (f"{own.median:.2f}", tail, f"{own.min:.2f}", f"{own.max:.2f}", str(own.n))
        table.add_row(row.key, params, row.unit, peers, *numbers, "" if row.ratio is None else f"{row.ratio:.3f}")
    console.print(table, highlight=False)


def _range(peer: Figures) -> str:
    shown = f"{peer.min:g}" if peer.min == peer.max else f"{peer.min:g} to {peer.max:g}"
    return shown if peer.source is msgspec.UNSET else f"{shown} ({peer.source})"
