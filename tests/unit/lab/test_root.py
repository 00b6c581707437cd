"""Without root the lab says so, and does nothing else."""

import os

import pytest

from portward.lab import Lab, NeedsRoot


@pytest.mark.parametrize("use", [lambda: Lab.create("try"), lambda: Lab.open("try"), Lab.names])
def test_who_is_not_root_is_told_what_to_do(use: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NeedsRoot, match="run it as root"):
        use()
