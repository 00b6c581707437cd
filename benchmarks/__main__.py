"""Runs the benchmarks, tells how far it is, prints the table, and writes ``benchmarks/latest.json``."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import api, churn, compiler, host, members, router, vm, vm_churn, vm_connections, way
from benchmarks.isolation import own_mounts
from benchmarks.plot import draw
from benchmarks.row import Row, Skipped, print_table, write_json

_LATEST = Path(__file__).with_name("latest.json")
_PLOT = Path(__file__).parents[1] / "docs" / "images" / "cost-of-a-packet.svg"
#: Each has ``rows(wanted, tell)``, and raises ``Skipped`` where it cannot measure.
_MODULES = (api, compiler, router, host, way, members, churn, vm, vm_churn, vm_connections)


def main() -> None:
    """Run all, or what ``--only`` names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="KEY", help="rows whose key begins so; latest.json is left as it is")
    parser.add_argument("--renew", action="store_true", help="with --only: put these rows into latest.json after all")
    arguments = parser.parse_args()
    if arguments.renew and arguments.only is None:
        parser.error("--renew goes with --only; without it all rows are written")
    own_mounts()
    errors = Console(stderr=True)
    console = Console(width=None if sys.stdout.isatty() else 200)
    rows: list[Row] = []
    skipped: list[str] = []
    with errors.status("starting") as status:
        for module in _MODULES:
            try:
                # One by one: rows that came before a Skipped count.
                rows.extend(module.rows(lambda key: key.startswith(arguments.only or ""), status.update))
            except Skipped as reason:
                skipped.append(f"{module.__name__}: {reason}")
    print_table(rows, console)
    console.print("Peers that say `recorded` were not measured in this run; their ratio crosses machines.", style="dim")
    for line in skipped:
        console.print(f"skipped {line}", style="yellow")
    if arguments.renew:
        write_json(rows, _LATEST, keep=True)
    if arguments.only is None:
        write_json(rows, _LATEST)
        draw(rows, _PLOT)
        errors.print(f"written to {_LATEST} and {_PLOT}", style="dim")


if __name__ == "__main__":
    main()
