"""The table of behaviours in docs/reference and the tests that hold them name each other, and no number is missing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[3] / "docs" / "reference" / "behaviours.md"


def told(word: str) -> dict[int, set[str]]:
    """For each number, the tests that the page names, as `module: name of the test`."""
    rows = TABLE.read_text().split(f"| No. | {word} | Tests |\n")[1].split("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {int(number): set(tests.split("<br>")) for number, _, tests in cells}


def held(word: str) -> Iterator[tuple[int, str]]:
    """The numbers in the docstrings of tests."""
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for numbers in re.findall(rf"\b{word}s? ([0-9, ]+)\.", ast.get_docstring(node) or ""):
                    name = node.name.removeprefix("test_").replace("_", " ")
                    yield from (
                        (int(number), f"`{file.stem.removeprefix('test_')}`: {name}") for number in numbers.split(",")
                    )


@pytest.mark.parametrize(("word", "count"), [("Behaviour", 76), ("Difference", 17)])
def test_each_number_has_its_tests_and_each_such_test_its_line(word: str, count: int) -> None:
    by_number: dict[int, set[str]] = {}
    for number, name in held(word):
        by_number.setdefault(number, set()).add(name)
    assert list(told(word)) == list(range(1, count + 1))
    assert by_number == told(word)
