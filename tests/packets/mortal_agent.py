"""``portward agent`` that dies at a step of a change, or whose dataplanes refuse one, as files of a test's say.

``die``: the name of a step, ``deaths.HALF_SENT``, or ``COUNTED``, after what was counted is kept; the file goes with
the agent. ``refuse``: the name of a step, which is refused while the file is there.
"""

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from packets.deaths import halving
from packets.refusals import refusing_while
from portward.agent import assembly
from portward.agent.ledger import Ledger
from portward.cli import main
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane

COUNTED = "counted"


def run(directory: Path) -> None:
    """Be the agent; the files are in ``directory``."""

    def told(file: str) -> str:
        with suppress(FileNotFoundError):
            return (directory / file).read_text()
        return ""

    def die_at(reached: str) -> None:
        if reached == told("die"):
            (directory / "die").unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def keep(ledger: Ledger, readings, keep=Ledger.keep) -> None:  # type: ignore[no-untyped-def]
        keep(ledger, readings)
        die_at(COUNTED)

    assembly.NftablesDataplane = partial(NftablesDataplane, on_step=die_at)  # type: ignore[misc, assignment]
    assembly.OpenvswitchDataplane = partial(OpenvswitchDataplane, on_step=die_at)  # type: ignore[misc, assignment]
    Ledger.keep = keep  # type: ignore[method-assign]
    with halving(die_at), refusing_while(lambda: [told("refuse")]):
        main()


if __name__ == "__main__":
    run(Path(sys.argv.pop(1)))
