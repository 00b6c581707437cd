"""Markdown tables that are aligned as text, too."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold anything but line breaks."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head) - 1)]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "|" + "|".join(["---"] * len(head)) + "|")
    return "\n".join(lines) + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return "| " + " | ".join([*aligned, row[-1]]) + " |"
