"""Runs the benchmarks, tells how far it is, prints the table, and writes ``benchmarks/latest.json``."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import api
from benchmarks.row import print_table, write_json

_LATEST = Path(__file__).with_name("latest.json")


def main() -> None:
    """Run all, or what ``--only`` names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="KEY", help="rows whose key begins so; latest.json is left as it is")
    arguments = parser.parse_args()
    errors = Console(stderr=True)
    console = Console(width=None if sys.stdout.isatty() else 200)
    with errors.status("starting") as status:
        rows = list(api.rows(lambda key: key.startswith(arguments.only or ""), status.update))
    print_table(rows, console)
    console.print("Peers that say `recorded` were not measured in this run; their ratio crosses machines.", style="dim")
    if arguments.only is None:
        write_json(rows, _LATEST)
        errors.print(f"written to {_LATEST}", style="dim")


if __name__ == "__main__":
    main()
