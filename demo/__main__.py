"""``python -m demo``: tell the story, or leave its world running to play with (``--stay``).

Exit status: 0 when expectation, explanation and packet agree on every line; 1 when they do not, or a part of
the demo failed; 2 for wrong usage. Whatever happens, the lab and the processes are gone at the end.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.client import ClientError, OpenStackClient
from demo.processes import HOST, Portward, ProcessError
from demo.story import CUT, LIVES, PASSED, RESET, SILENT, STORY, TOGETHER, UNREACHABLE, Event, Held, Kill, Open, Probe
from demo.world import ModelWorld, RealWorld, World, packet_of, path_of
from portward.lab import Lab, LabPort, LabState, plan
from portward.lab.state import VM
from portward.model import PortwardError

LAB = "demo"
NOTHING_WRONG = "0 lost, 0 leaked"
COUNTED = 15.0  # seconds within which a host has told what it counted
#: The act for each kind of port: where the story's group is, and what the table calls it.
ACTS = {"router": "on the router's port to blue", "vm": "on the port of blue, a virtual machine on a switch"}
#: Hosts and networks whose ports the API knows. Of the router's ports those have the names of their networks, or, where
#: these are names of virtual machines, "router-" before them.
FIREWALLED = ("red", "blue")

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110)


@dataclass(frozen=True)
class Line:
    """One line of the table at the end."""

    chapter: str
    sent: str
    expected: str
    explained: str
    happened: str

    @property
    def agrees(self) -> bool:
        """Whether all three say the same."""
        return self.expected == self.explained == self.happened


class Teller:
    """Runs the chapters in a world, and keeps a line for everything that was tried."""

    def __init__(self, portward: Portward, client: OpenStackClient, world: World, kind: str) -> None:
        self._portward = portward
        self._client = client
        self._world = world
        self._kind = kind
        self.lines: list[Line] = []

    def tell(self) -> None:
        """The whole story."""
        for number, chapter in enumerate(STORY + (TOGETHER if self._kind == "vm" else ()), 1):
            console.print(f"\n[bold]{number}. {chapter.title}[/]")
            for command in chapter.commands:
                console.print(f"   [cyan]$ openstack {command}[/]")
                self._check_answer(command, self._client.run(command))
            with console.status("waiting for the host to realise it"):
                self._world.settle()
            for event in chapter.events:
                line = self._try(chapter.title if self._kind == "router" else f"{chapter.title} (VM port)", event)
                if line is not None:
                    self.lines.append(line)
                    mark = "[green]ok[/]" if line.agrees else "[bold red]DIFFERS[/]"
                    console.print(f"   {line.sent:<50} {line.happened:<18} {mark}")

    @staticmethod
    def _check_answer(command: str, answer: str) -> None:
        """The client prints an object, a sentence, or nothing; anything else is what went wrong."""
        if answer and not answer.startswith(("+-", "Inserted ", "Removed ")):
            raise ClientError(f"openstack {command}\n{answer}")

    def _try(self, chapter: str, event: Event) -> Line | None:
        if isinstance(event, Open):
            with console.status("connecting"):
                self._world.open(event.name, event.port)
            console.print(f"   connection {event.name!r} from red to blue, TCP port {event.port}: open")
            return None
        if isinstance(event, Held):
            explained = self._explain(Probe("red", "blue", "tcp", event.port, PASSED))
            with console.status("sending on the open connection"):
                happened = self._world.held(event.name)
            says = LIVES if explained == PASSED else CUT
            return Line(chapter, f"the open connection to TCP port {event.port}", event.expected, says, happened)
        if isinstance(event, Kill):
            return self._kill(chapter, event)
        with console.status("waiting for an answer"):
            happened = self._world.probe(event)
        return Line(chapter, _sentence(event, self._world), event.expected, self._explain(event), happened)

    def _kill(self, chapter: str, kill: Kill) -> Line:
        with console.status("killing the agent under traffic, starting it again"):
            streams = self._world.kill(kill)
        verdicts = [
            self._explain(Probe("red", "blue", "udp", port, PASSED)) for port in (kill.allowed_port, kill.denied_port)
        ]
        sent, lost = streams.allowed_sent + streams.denied_sent, streams.allowed_sent - streams.allowed_received
        console.print(
            f"   allowed stream: {streams.allowed_sent:,} sent, {lost:,} lost; "
            f"denied stream: {streams.denied_sent:,} sent, {streams.denied_received:,} passed"
        )
        return Line(
            chapter,
            f"UDP {kill.allowed_port}, {kill.denied_port}: {sent:,} packets in all",
            NOTHING_WRONG,
            NOTHING_WRONG if verdicts == [PASSED, SILENT] else " and ".join(verdicts),
            NOTHING_WRONG
            if streams.allowed_sent and not lost and streams.denied_sent and not streams.denied_received
            else f"{lost} lost, {streams.denied_received} leaked",
        )

    def _explain(self, probe: Probe) -> str:
        """What ``explain`` says of a probe, in the story's words: every port on its way must allow it."""
        packet = packet_of(self._world, probe)
        fields = ("source", "destination", "protocol", "source_port", "destination_port", "icmp_type", "icmp_code")
        values = {name: getattr(packet, name) for name in fields}
        asked = {name: str(value) if name in fields[:2] else value for name, value in values.items()}
        for crossing in path_of(self._world, probe):
            question = {"port_id": crossing.port_id, "direction": crossing.direction.value, "packet": asked}
            answer = self._portward.ask("POST", "/v2.0/fwaas/explain", {"explain": question})["explanation"]
            if answer["verdict"] != "allow":
                refused = RESET if probe.protocol == "tcp" else UNREACHABLE
                return SILENT if answer["verdict"] == "deny" else refused
        return PASSED


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Portward's main job, on real packets.")
    parser.add_argument("--stay", action="store_true", help="leave the networks, API and agent running until Ctrl-C")
    parser.add_argument("--model", action="store_true", help="on the golden model alone, as without root")
    arguments = parser.parse_args()
    stay, root = arguments.stay, os.geteuid() == 0 and not arguments.model
    if not root:
        console.print(
            "[bold yellow]Without root:[/] network namespaces and nftables need it (`sudo make demo`). "
            "The same story follows\non the golden model alone: the API, the client and the decisions are real, "
            "[bold]the packets are not[/]."
        )
        if stay:
            return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if stay:
            with _stage("router", root=root) as (portward, _):
                return _stay(portward)
        lines: list[Line] = []
        for kind in ACTS if root else ("router",):
            with _stage(kind, root=root) as (portward, world):
                lines += _story(portward, world, kind)
        return _verdict(lines, root=root)
    except KeyboardInterrupt:
        console.print("interrupted; everything is cleaned up")
        return 0 if stay else 1
    except (ClientError, ProcessError, PortwardError) as error:
        console.print(f"[bold red]the demo failed:[/] {error}", markup=True)
        return 1


@contextmanager
def _stage(kind: str, *, root: bool) -> Iterator[tuple[Portward, World]]:
    """Networks, API and agent; gone afterwards."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="pw-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        with console.status("building two networks behind a router, starting the API and the agent"):
            lab = stack.enter_context(Lab.create(LAB, switch=kind == "vm")) if root else None
            state = lab.state if lab else plan(LAB, 2)
            portward = Portward(directory, switch=lab.switch if lab and kind == "vm" else None)
            if lab and kind == "vm":
                stack.callback(portward.cleanup_agent)  # what it made beside the switch is no part of the lab
            stack.callback(portward.stop)
            portward.start_api()
            ids = {port.name: _register(portward, port, port.name) for port in _guarded(state)}
            world: World
            if lab and kind == "vm":
                router_ids = _plug(portward, lab, ids)
                portward.start_agent()
                world = RealWorld(portward, lab, ids, router_ids)
            elif lab:
                portward.start_agent()
                world = RealWorld(portward, lab, ids, {})
            else:
                world = ModelWorld(portward, state, ids)
            stack.callback(world.close)
        yield portward, world


def _guarded(state: LabState) -> list[LabPort]:
    """The ports that the story is about: of virtual machines, if there are some, else the router's."""
    return [port for port in state.vm_ports or state.ports if port.name in FIREWALLED]


def _register(portward: Portward, port: LabPort, name: str) -> str:
    """Tell the API of a port, as people without OpenStack do; its id."""
    addresses = [argument for address in port.fixed_ips for argument in ("--fixed-ip", str(address))]
    device = () if port.device_owner == VM else ("--netns", port.netns, "--device", port.device)
    made: dict[str, Any] = portward.command(
        *("port", "add", name, *device, "--host", HOST, "--owner", port.device_owner),
        *("--device-id", port.router_id, "--network", port.network_id, "--mac", port.mac),
        *addresses,
        *("--format", "json"),
    )
    return str(made["id"])


def _plug(portward: Portward, lab: Lab, ids: dict[str, str]) -> dict[str, str]:
    """Say on the switch which port each interface is, as whoever plugs it in does; the ids of the router's."""
    routers = {name: _register(portward, lab.port(name), f"router-{name}") for name in FIREWALLED}
    for ports, known in ((lab.state.vm_ports, ids), (lab.state.plugged_ports, routers)):
        for port in ports:
            lab.switch.vsctl("set", "interface", port.device, f"external_ids:iface-id={known[port.name]}")
    return routers


def _story(portward: Portward, world: World, kind: str) -> list[Line]:
    console.rule(f"[bold]The firewall group is {ACTS[kind]}[/]")
    joint = "──┐" if kind == "router" else "──┐ (on a switch)"
    console.print(
        f"\n   red  10.1.0.0/24 fd00:1::/64 {joint}\n"
        "                                  router ── outside  203.0.113.0/24 2001:db8::/64\n"
        "   blue 10.2.0.0/24 fd00:2::/64 ──┘"
    )
    with OpenStackClient({"OS_AUTH_TYPE": "none", "OS_ENDPOINT": portward.url}) as client:
        teller = Teller(portward, client, world, kind)
        teller.tell()
        if kind == "vm":
            _show_counters(portward)
    return teller.lines


def _show_counters(portward: Portward) -> None:
    """How often rules decided, on the port of the virtual machine and on the router's."""
    deadline = time.monotonic() + COUNTED
    for policy in ("narrow", "edge"):
        console.print(f"   [cyan]$ portward policy counters {policy}[/]")
        while True:
            rules = portward.command("policy", "counters", policy, "--format", "json")
            if any(rule["packets"] for rule in rules) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        for rule in rules:
            console.print(f"   {rule['rule_name']:<20} {rule['action']:<8} {rule['packets'] or 0:>6,}")


def _verdict(lines: list[Line], *, root: bool) -> int:
    _show(lines, "packets" if root else "golden model")
    differ = sum(not line.agrees for line in lines)
    if differ:
        console.print(f"\n[bold red]{differ} of {len(lines)} lines differ.[/]")
        return 1
    who = "the packets" if root else "the golden model (no packet was sent)"
    console.print(f"\n[bold green]All {len(lines)} lines agree:[/] the story, `explain` and {who}.")
    return 0


def _show(lines: list[Line], happened: str) -> None:
    """The table; each chapter's title stands over its lines, which a rich table could not do."""

    def row(*cells: str) -> str:
        return "".join(f"{cell:<{width}}" for cell, width in zip(cells, (49, 17, 17, 17), strict=True))

    console.print(f"\n[bold]{row('sent', 'expected', 'explain says', happened)}[/]")
    chapter = ""
    for line in lines:
        if line.chapter != chapter:
            chapter = line.chapter
            console.print(f"[bold]{chapter}[/]")
        mark = "[green]ok[/]" if line.agrees else "[bold red]DIFFERS[/]"
        console.print(row(f"  {line.sent}", line.expected, line.explained, line.happened) + mark)


def _stay(portward: Portward) -> int:
    program = Path(sys.executable).parent
    console.print(
        "\nRunning: two networks, [bold]red[/] and [bold]blue[/], behind a router, an outside host, the API and an "
        "agent.\nIn another terminal, as root:\n\n"
        f"   export OS_AUTH_TYPE=none OS_ENDPOINT={portward.url} PORTWARD_CONFIG={portward.config}\n"
        f"   export PATH={program}:$PATH\n\n"
        "   openstack firewall group rule create ping --protocol icmp --action allow\n"
        "   openstack firewall group policy create in --firewall-rule ping\n"
        "   openstack firewall group create web --port blue --ingress-firewall-policy in\n\n"
        f"   portward lab exec {LAB} red -- ping -c1 10.2.0.10          # passes\n"
        f"   portward lab exec {LAB} blue -- ping -c1 -W1 10.1.0.10     # does not: no egress policy\n"
        "   portward explain blue egress --protocol icmp --source 10.2.0.10 --destination 10.1.0.10\n"
        "   portward port show blue\n\n"
        "Ctrl-C here ends it and cleans up."
    )
    signal.pause()
    return 0


def _sentence(probe: Probe, world: World) -> str:
    packet = packet_of(world, probe)
    what = "ping" if probe.port is None else f"{probe.protocol.upper()} {probe.port}"
    return f"{what}, {probe.sender} {packet.source} to {probe.receiver} {packet.destination}"


if __name__ == "__main__":
    sys.exit(main())
