"""The systemd units: they start what there is, with the privileges that it needs and no others."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from portward.cli import app
from portward.config import Agent, Database
from portward.dataplane.privileges import NEEDED

PACKAGING = Path(__file__).parents[2] / "packaging/systemd"
UNITS = ["portward-api.service", "portward-agent.service"]


def read(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(PACKAGING / name)
    return parser


@pytest.mark.parametrize("name", UNITS)
def test_the_command_that_a_unit_starts_exists(name: str):
    program, command = read(name)["Service"]["ExecStart"].split()

    assert program.startswith("/")
    assert Path(program).name == "portward"
    assert command in get_command(app).commands  # type: ignore[attr-defined]


def test_the_agent_has_the_capabilities_that_it_asks_for_and_no_others():
    service = read("portward-agent.service")["Service"]

    assert set(service["AmbientCapabilities"].split()) == set(NEEDED)
    assert set(service["CapabilityBoundingSet"].split()) == set(NEEDED)


def test_the_api_has_no_capability():
    service = read("portward-api.service")["Service"]

    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_can_gain_nothing_and_comes_back(name: str):
    service = read(name)["Service"]

    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert int(service["LimitNOFILE"]) == 65536


def test_the_agent_comes_before_the_network():
    unit = read("portward-agent.service")["Unit"]

    assert "network-pre.target" in unit["Before"].split()
    assert unit["Wants"] == "network-pre.target"
    assert unit["DefaultDependencies"] == "no", "basic.target may itself wait for the network"


@pytest.mark.parametrize(
    ("name", "path"),
    [("portward-api.service", Database().url.removeprefix("sqlite:///")),
     ("portward-agent.service", str(Agent().state_dir / "state"))],
)  # fmt: skip
def test_what_is_written_by_default_is_in_the_state_directory_of_the_unit(name: str, path: str):
    assert Path(path).parent == Path("/var/lib", read(name)["Service"]["StateDirectory"])


@pytest.mark.parametrize("name", UNITS)
def test_the_users_of_the_units_are_made(name: str):
    made = [line.split()[1] for line in (PACKAGING / "portward.sysusers").read_text().splitlines() if line[:1] == "u"]

    assert read(name)["Service"]["User"] in made


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_a_unit(name: str, tmp_path: Path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:  # a machine without systemd has nothing to start them with
        return
    unit = tmp_path / name
    unit.write_text((PACKAGING / name).read_text().replace("/opt/portward/bin/portward", "/bin/true"))

    told = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)

    assert (told.returncode, told.stderr) == (0, "")
