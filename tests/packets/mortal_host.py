"""A host with ports of both kinds, and its API and agent as processes that die, or are refused things, on demand."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from demo.processes import HOST, Portward
from packets.test_whole_way import FWAAS, change, make, status, tcp
from portward.lab import Lab, LabPort, Outcome
from portward.lab.state import VM

_PATIENCE = 20


class Mortal(Portward):
    """``portward api``, and an agent that dies, or is refused something, when a file says so."""

    def _spawn(self, name: str, log: BinaryIO) -> "subprocess.Popen[bytes]":
        if name != "agent":
            return super()._spawn(name, log)
        return subprocess.Popen(
            [sys.executable, "-m", "packets.mortal_agent", self.directory, "--config", self.config, "agent"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environment
            | {"PORTWARD_AGENT__TOKEN": self.token, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def tell(self, file: str, step: str) -> None:
        """Let the agent die at ``step``, or refuse it."""
        (self.directory / file).write_text(step)

    def untell(self) -> None:
        """Let the agent be."""
        for file in ("die", "refuse"):
            (self.directory / file).unlink(missing_ok=True)

    def wait_until_dead(self) -> None:
        """The agent has killed itself."""
        assert self._running["agent"].wait(_PATIENCE) == -signal.SIGKILL
        del self._running["agent"]

    def revive(self) -> None:
        """Start what is not running, as after a test that failed."""
        for name, start in (("api", self.start_api), ("agent", self.start_agent)):
            if name not in self._running or self._running[name].poll() is not None:
                start()

    def start_agent_until(self, says: str) -> None:
        """Start an agent, and wait until its log says ``says``."""
        log = self.log("agent")
        before = log.stat().st_size
        self.start_agent()
        self.wait("agent", f"says {says}", lambda: says.encode() in log.read_bytes()[before:], _PATIENCE)

    @contextmanager
    def silent_api(self) -> Iterator[None]:
        """An API that takes what it is asked and does not answer."""
        process = self._running["api"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


class MortalHost:
    """Red and blue, whose ports of both kinds are on the host, and a group for blue's.

    The group allows UDP to 5003 and TCP to 22, or once changed, to 80.
    """

    def __init__(self, portward: Mortal, lab: Lab) -> None:
        self.portward, self.lab = portward, lab
        self.state_dir = portward.directory / "agent"
        self._ports = {}
        for kind, ports, plugged in (
            ("vm", lab.vm_ports, lab.state.vm_ports),
            ("router", lab.ports, lab.state.plugged_ports),
        ):
            ids = {name: self._add(ports[name]) for name in ("red", "blue")}
            self._ports[kind] = ids["blue"]
            for port in plugged:
                lab.switch.vsctl("set", "interface", port.device, f"external_ids:iface-id={ids[port.name]}")
        self._rule = make(portward, "rules", protocol="tcp", destination_port=22, action="allow")
        steady, all_ = (
            [make(portward, "rules", action="allow", ip_version=version, **match) for version in (4, 6)]
            for match in ({"protocol": "udp", "destination_port": 5003}, {})
        )
        policy = make(portward, "policies", name="in", firewall_rules=[self._rule, *steady])
        everything = make(portward, "policies", name="everything", firewall_rules=all_)
        self._open = make(portward, "groups", name="open", ports=[], ingress_firewall_policy_id=everything)
        self.group = make(portward, "groups", name="guard", ports=[], ingress_firewall_policy_id=policy)

    def guard(self, *kinds: str) -> None:
        """Have blue's ports of ``kinds``, and no others, guarded as at the beginning, and wait until they are."""
        change(self.portward, "rules", self._rule, destination_port="22")
        change(self.portward, "groups", self._open, ports=[])
        change(self.portward, "groups", self.group, ports=[self._ports[kind] for kind in kinds])
        if "vm" not in kinds:
            change(self.portward, "groups", self._open, ports=[self._ports["vm"]])  # else its default group denies all
        self.portward.wait_until_realised()

    def change(self) -> None:
        """Have TCP to 80 allowed instead of 22."""
        change(self.portward, "rules", self._rule, destination_port="80")

    def decides(self) -> tuple[Outcome, Outcome]:
        """What becomes of TCP to 22 and to 80."""
        return tcp(self.lab, 22), tcp(self.lab, 80)

    def status(self) -> str:
        """The status of the group."""
        return status(self.portward, self.group)

    def reasons(self) -> dict[str, str | None]:
        """What is wrong with each port of the group, by its kind."""
        told = self.portward.ask("GET", f"{FWAAS}/firewall_groups/{self.group}/realisation")["realisation"]
        kinds = {id_: kind for kind, id_ in self._ports.items()}
        return {kinds[port["port_id"]]: port["error"] for port in told["ports"]}

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """There is no room for another byte where the agent keeps its state."""
        filler = self.state_dir / "filler"
        try:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            filler.unlink()

    def _add(self, port: LabPort) -> str:
        """Register a port as Neutron would; its id."""
        profile = {} if port.device_owner == VM else {"netns": port.netns, "device": port.device}
        body = {
            "name": f"{port.device_owner} {port.name}",
            "device_owner": port.device_owner,
            "device_id": port.router_id,
            "network_id": port.network_id,
            "mac_address": port.mac,
            "fixed_ips": [{"ip_address": str(address)} for address in port.fixed_ips],
            "binding:host_id": HOST,
            "binding:profile": profile,
        }
        return str(self.portward.ask("POST", "/v2.0/ports", {"port": body})["port"]["id"])


@contextmanager
def mortal_host(lab: Lab, directory: Path) -> Iterator[MortalHost]:
    """The host in ``lab``, which has a switch; the agent keeps its state on a small disk of its own."""
    state_dir = directory / "agent"
    state_dir.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs", str(state_dir)], check=True)
    portward = Mortal(directory, switch=lab.switch)
    try:
        portward.start_api()
        yield MortalHost(portward, lab)
    finally:
        portward.stop()
        portward.cleanup_agent()
        subprocess.run(["umount", str(state_dir)], check=True)
