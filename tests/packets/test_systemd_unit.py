"""The agent with nothing but what its systemd unit gives it, on real packets."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import HOST, Portward
from packets.test_whole_way import PASSED, SILENT, add_port, guard, tcp
from portward.lab import Lab

UNIT = Path(__file__).parents[2] / "packaging/systemd/portward-agent.service"
NOBODY = 65534


@pytest.fixture
def state_dir() -> Iterator[str]:
    """A directory of the agent's own user, who may look at the namespaces as it may where ``ip netns`` made them."""
    before = Path("/run/netns").stat().st_mode
    with tempfile.TemporaryDirectory(prefix="pw-agent-") as directory:
        os.chown(directory, NOBODY, NOBODY)
        Path("/run/netns").chmod(0o755)
        yield directory
        Path("/run/netns").chmod(before)


@pytest.fixture
def checkout() -> Iterator[Path]:
    """This checkout, where the agent's user may look at it too: it may lie in a home that is closed to others."""
    with tempfile.TemporaryDirectory(prefix="pw-checkout-") as directory:
        Path(directory).chmod(0o755)
        place = Path(directory, "seen")
        place.mkdir()
        subprocess.run(["mount", "--bind", str(UNIT.parents[2]), str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_the_capabilities_of_its_unit_suffice_a_user_without_any_other(
    tmp_path: Path, state_dir: str, checkout: Path, lab: Lab
) -> None:
    line = next(line for line in UNIT.read_text().splitlines() if line.startswith("AmbientCapabilities="))
    capabilities = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split())
    confined = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
                f"--bounding-set=-all,{capabilities}", f"--inh-caps=-all,{capabilities}",
                f"--ambient-caps=-all,{capabilities}"]  # fmt: skip
    portward = Portward(tmp_path)
    agent = None
    try:
        portward.start_api()
        settings = {"HOST": HOST, "API": portward.agents_url, "TOKEN": portward.token, "STATE_DIR": state_dir}
        python = checkout / Path(sys.executable).relative_to(UNIT.parents[2])
        agent = subprocess.Popen(
            [*confined, str(python), "-m", "portward", "agent"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout / "src")}
            | {f"PORTWARD_AGENT__{key}": value for key, value in settings.items()},
            cwd="/",
        )
        guard(portward, add_port(portward, lab, "blue"), allow=22)
        assert (tcp(lab, 22), tcp(lab, 80)) == (PASSED, SILENT)
    finally:
        if agent is not None:
            agent.kill()
            agent.wait()
        portward.stop()
