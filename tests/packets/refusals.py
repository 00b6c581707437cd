"""Failures on demand: steps of a change that are refused, made up at the boundary, and descriptors that run out."""

import os
import resource
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from unittest import mock

from portward.dataplane.nftables.libnftables import Nft, NftError
from portward.dataplane.nftables.namespace import Step
from portward.dataplane.openvswitch import bridge
from portward.dataplane.openvswitch.openflow import FlowChange, OpenflowConnection, Refused
from portward.dataplane.openvswitch.vswitchd import Vswitchd, VswitchdError

REASON = "Cannot allocate memory"

#: By the kind of port, every step of a change that may be refused, and whether the change is in force all the same.
REFUSED = (
    ("router", Step.PREPARED, False),
    ("router", Step.SWITCHED, False),
    ("router", Step.REMOVED, True),
    ("vm", bridge.Step.COMMITTED, False),
    ("vm", bridge.Step.REALISED, True),
)


def _step_of(text: str) -> Step | None:
    """To which step of a change a transaction belongs; ``None``: it is not about our table."""
    if "inet portward" not in text:
        return None
    if text.startswith("table "):
        return Step.PREPARED
    return Step.SWITCHED if text.startswith("flush chain inet portward forward\n") else Step.REMOVED


@contextmanager
def refusing(*steps: str) -> Iterator[list[str]]:
    """``steps`` are refused, as when there is no memory; yields those that were, one by one."""
    with refusing_while(lambda: steps) as refused:
        yield refused


@contextmanager
def refusing_while(steps: Callable[[], Collection[str]]) -> Iterator[list[str]]:
    """The same, of the steps that are to be refused when they come."""
    refused: list[str] = []
    run, commit, purge = Nft.run, OpenflowConnection.commit, Vswitchd.purge

    def check(step: str | None, error: type[Exception]) -> None:
        if step is not None and step in steps():
            refused.append(step)
            raise error(REASON)

    def checked_run(nft: Nft, text: str) -> str:
        check(_step_of(text), NftError)
        return run(nft, text)

    def checked_commit(connection: OpenflowConnection, changes: Sequence[FlowChange]) -> None:
        check(bridge.Step.COMMITTED, Refused)
        commit(connection, changes)

    def checked_purge(vswitchd: Vswitchd, times: int) -> None:
        if times > 1:  # once before a change, so that counts are whole; else after it
            check(bridge.Step.REALISED, VswitchdError)
        purge(vswitchd, times)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(Nft, "run", checked_run))
        patches.enter_context(mock.patch.object(OpenflowConnection, "commit", checked_commit))
        patches.enter_context(mock.patch.object(Vswitchd, "purge", checked_purge))
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
