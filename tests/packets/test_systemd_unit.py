"""The agent with nothing but what its systemd unit gives it, on real packets."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import HOST, Portward
from packets.test_whole_way import PASSED, SILENT, add_port, guard, make, tcp
from portward.dataplane.openvswitch.reflector import Reflector
from portward.lab import Lab, Outcome

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


def as_user(uid: int) -> list[str]:
    """The command that runs another as this user, with the capabilities of the unit and no others."""
    (names,) = settings_of(UNIT, "AmbientCapabilities")
    capabilities = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names.split())
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs",
            f"--bounding-set=-all,{capabilities}", f"--inh-caps=-all,{capabilities}",
            f"--ambient-caps=-all,{capabilities}"]  # fmt: skip


def settings_of(unit: Path, name: str) -> list[str]:
    """What ``unit`` sets ``name`` to, line by line."""
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def test_the_capabilities_of_its_unit_suffice_a_user_without_any_other(
    tmp_path: Path, state_dir: str, checkout: Path, lab: Lab
) -> None:
    confined = as_user(NOBODY)
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


def test_with_the_drop_in_for_virtual_machines_it_finds_the_switch_and_answers_what_it_rejects(tmp_path: Path) -> None:
    """As root with the unit's capabilities, no new namespaces, and the one that systemd has made for it."""
    drop_in = UNIT.with_name("portward-agent-openvswitch.conf")
    assert settings_of(drop_in, "User") == ["root"]
    assert settings_of(drop_in, "ExecStartPre") == [f"-+ip netns add {Reflector('br-int').namespace}"]
    with Lab.create("unit", switch=True) as lab:
        portward = Portward(tmp_path, switch=lab.switch)
        reflector = Reflector(lab.switch.bridge, lab.switch.run_dir)
        subprocess.run(["ip", "netns", "add", reflector.namespace], check=True)
        agent = None
        try:
            portward.start_api()
            read_only = ["unshare", "-m", "sh", "-c", 'mount -o remount,bind,ro /run/netns && exec "$@"', "sh"]
            agent = subprocess.Popen(
                [*read_only, *as_user(0), sys.executable, "-m", "portward", "--config", str(portward.config), "agent"],
                env=os.environ | {"PORTWARD_AGENT__TOKEN": portward.token},
            )
            protect(portward, lab)
            assert (tcp(lab, 22), tcp(lab, 80)) == (PASSED, Outcome.RESET)
        finally:
            if agent is not None:
                agent.kill()
                agent.wait()
            portward.stop()
            portward.cleanup_agent()


def protect(portward: Portward, lab: Lab) -> None:
    """The lab's machines are known, and blue's takes TCP 22 and rejects the rest."""
    ids = {}
    for name, port in lab.vm_ports.items():
        addresses = [{"ip_address": str(address)} for address in port.fixed_ips]
        body = {
            "device_owner": "compute:nova",
            "binding:host_id": HOST,
            "mac_address": port.mac,
            "fixed_ips": addresses,
        }
        ids[name] = portward.ask("POST", "/v2.0/ports", {"port": body})["port"]["id"]
        lab.switch.vsctl("set", "interface", port.device, f"external_ids:iface-id={ids[name]}")
    for port in lab.state.plugged_ports:
        body = {"device_owner": "network:dhcp", "binding:host_id": HOST}
        id_ = portward.ask("POST", "/v2.0/ports", {"port": body})["port"]["id"]
        lab.switch.vsctl("set", "interface", port.device, f"external_ids:iface-id={id_}")
    rules = [
        make(portward, "rules", protocol="tcp", destination_port="22", action="allow"),
        make(portward, "rules", action="reject"),
    ]
    policy = make(portward, "policies", firewall_rules=rules)
    make(portward, "groups", ports=[ids["blue"]], ingress_firewall_policy_id=policy)
    portward.wait_until_realised()
