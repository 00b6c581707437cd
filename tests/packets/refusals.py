"""Failures on demand: nftables that refuses, made up at the boundary, and descriptors that run out, for real."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest import mock

from portward.dataplane.nftables.libnftables import Nft, NftError
from portward.dataplane.nftables.namespace import Step

REASON = "nftables refused: Could not process rule: Cannot allocate memory"


def step_of(text: str) -> Step | None:
    """To which step of a change a transaction belongs; ``None``: it is not about our table."""
    if "inet portward" not in text:
        return None
    if text.startswith("table "):
        return Step.PREPARED
    return Step.SWITCHED if text.startswith("flush chain inet portward forward\n") else Step.REMOVED


@contextmanager
def refusing(*steps: Step) -> Iterator[list[str]]:
    """Every transaction of ``steps`` is refused, as when the kernel has no memory; yields those refused."""
    refused: list[str] = []
    run = Nft.run

    def refuse(nft: Nft, text: str) -> str:
        if step_of(text) in steps:
            refused.append(text)
            raise NftError(REASON)
        return run(nft, text)

    with mock.patch.object(Nft, "run", refuse):
        yield refused


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """This process can open ``count`` more files, and no others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    fillers: list[int] = []
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)
