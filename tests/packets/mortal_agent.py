"""``portward agent`` that dies at a step of a change, or whose nftables refuses one, as files of a test's say.

``die``: the name of a step, or ``counted``, after what was counted is kept; the file goes with the agent. ``refuse``:
the name of a step, whose transactions are refused while the file is there.
"""

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from packets.refusals import REASON, step_of
from portward.agent import assembly
from portward.agent.ledger import Ledger
from portward.cli import main
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.libnftables import Nft, NftError


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

    def refuse(nft: Nft, text: str, run=Nft.run) -> str:  # type: ignore[no-untyped-def]
        if step_of(text) == told("refuse"):
            raise NftError(REASON)
        return str(run(nft, text))

    def keep(ledger: Ledger, readings, keep=Ledger.keep) -> None:  # type: ignore[no-untyped-def]
        keep(ledger, readings)
        die_at("counted")

    assembly.NftablesDataplane = partial(NftablesDataplane, on_step=die_at)  # type: ignore[misc, assignment]
    Nft.run = refuse  # type: ignore[method-assign]
    Ledger.keep = keep  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    run(Path(sys.argv.pop(1)))
