"""Write the reference pages that follow from the code: ``python -m tools.reference``, or ``make reference``.

Each is a template of ``tools/templates``, written by hand, in which the code fills the marks.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tools import api_page, configuration_page, policy_page

DIRECTORY = Path(__file__).parent.parent / "docs" / "reference"
_TEMPLATES = Path(__file__).parent / "templates"
#: By page, what is put in the place of each mark ``<!-- NAME -->``.
_PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "api.md": {"calls": api_page.calls, "attributes": api_page.attributes, "errors": api_page.errors},
    "configuration.md": {"generated": configuration_page.text},
    "policy-rules.md": {"generated": policy_page.text},
}


def pages() -> dict[str, str]:
    """The text of each page, by name."""
    return {name: _fill((_TEMPLATES / name).read_text(), marks) for name, marks in _PAGES.items()}


def _fill(template: str, marks: Mapping[str, Callable[[], str]]) -> str:
    for name, text in marks.items():
        template = template.replace(f"<!-- {name} -->\n", f"{text().strip()}\n")
    return template


def main() -> None:
    """Renew all of them."""
    for name, text in pages().items():
        (DIRECTORY / name).write_text(text)


if __name__ == "__main__":
    main()
