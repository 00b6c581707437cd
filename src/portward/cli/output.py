"""What the command prints: aligned tables for people on standard output, JSON for programs, troubles on standard error.

Nothing here knows what is printed. Exit codes are in one place: 0 done, 1 could not be done, 2 the request
itself is wrong (usage, configuration, or a value that the API refuses with 400).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

FAILED, WRONG = 1, 2

#: Columns of a table that no terminal shows: wide enough that nothing is folded.
_WIDE = 250

out = Console(width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE)


class Format(StrEnum):
    """Who reads the output."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="`table` for people, `json` for programs.")]


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say ``message`` on standard error and end with ``code``.

    Raises:
        typer.Exit: always.
    """
    say_error(message)
    raise typer.Exit(code)


def say_error(message: str) -> None:
    """Say on standard error what went wrong."""
    err.print(Text("portward: ", "bold red") + plain(message), highlight=False, soft_wrap=True)


def show_json(value: Any) -> None:
    """Print ``value`` as JSON, indented, keys in the order given."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def show_rows(format_: Format, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print ``rows`` as a table headed by ``columns``, or as a JSON list of objects with these keys.

    ``empty`` is said, on standard error, in place of a table without rows. A ``Text`` keeps its style.
    """
    rows = [list(row) for row in rows]
    if format_ is Format.JSON:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif not rows:
        err.print(empty, style="dim")
    else:
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column.replace("_", " "), overflow="fold")
        for row in rows:
            table.add_row(*(cell(value) for value in row))
        out.print(table)


def show_fields(format_: Format, fields: dict[str, Any]) -> None:
    """Print one object: a line a field, or JSON."""
    if format_ is Format.JSON:
        show_json(fields)
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), cell(value))
    out.print(table)


def cell(value: Any) -> Text:
    """``value`` as people read it in a table."""
    if isinstance(value, Text):
        return value
    if value is None or value in ("", [], {}):
        return Text("-", "dim")
    if isinstance(value, datetime):
        return Text(value.isoformat(" ", "seconds"))
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list | tuple):
        return Text("\n").join(cell(item) for item in value)
    return plain(str(value))


def plain(text: str) -> Text:
    """``text`` as it is: no markup is read into it, and its control characters reach no terminal."""
    return Text("".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text))
