"""The pages of docs/reference that follow from the code are those in the repository."""

import pytest
from tools.reference import DIRECTORY, pages

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says_now(name: str) -> None:
    assert (DIRECTORY / name).read_text() == PAGES[name], "renew it: make reference (python -m tools.reference)"


@pytest.mark.parametrize("name", PAGES)
def test_no_mark_of_the_template_is_left(name: str) -> None:
    assert "<!--" not in PAGES[name]
