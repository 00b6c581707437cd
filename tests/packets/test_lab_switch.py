"""The lab with a switch: its hosts are virtual machines, and nothing passes that no flow lets pass."""

import os
from pathlib import Path

import pytest

from portward.lab import Lab, Outcome
from portward.lab.errors import LabError


@pytest.fixture
def kind() -> str:
    return "vm"


def test_nothing_passes_a_switch_without_flows(lab: Lab) -> None:
    assert lab.red.probe("tcp", lab.blue.address(), 80).outcome is Outcome.SILENT
    assert lab.red.probe("icmp", lab.outside.address()).outcome is Outcome.SILENT


@pytest.mark.parametrize("version", [4, 6])
def test_an_open_switch_joins_machines_to_the_router_and_so_to_each_other_and_the_outside(
    lab: Lab, version: int
) -> None:
    lab.switch.open()
    for one, other in ((lab.red, lab.blue), (lab.blue, lab.outside), (lab.outside, lab.red)):
        for protocol, port in (("tcp", 80), ("udp", 53), ("icmp", None)):
            assert one.probe(protocol, other.address(version), port).outcome is Outcome.PASSED


def test_a_machine_that_is_unplugged_gets_nothing_until_it_is_plugged_again(lab: Lab) -> None:
    lab.switch.open()
    blue = lab.vm_ports["blue"]
    lab.switch.unplug(blue)
    assert lab.red.probe("tcp", lab.blue.address(), 80).outcome is Outcome.SILENT
    lab.switch.plug([blue])
    assert lab.red.probe("tcp", lab.blue.address(), 80).outcome is Outcome.PASSED


def test_a_lab_that_was_opened_by_another_process_is_taken_down_with_its_switch() -> None:
    lab = Lab.create("other", switch=True)
    daemons = [child.pid for child in lab.switch.children.values()]
    Lab.open("other").destroy()
    for child in lab.switch.children.values():
        child.wait(5)
    assert not any(Path(f"/proc/{pid}").exists() for pid in daemons)
    assert [name for name in os.listdir("/run/portward-lab") if name.startswith("other")] == []
    lab.destroy()


def test_a_lab_without_a_switch_says_how_to_have_one() -> None:
    with Lab.create("plain") as lab, pytest.raises(LabError, match="--switch"):
        _ = lab.switch
