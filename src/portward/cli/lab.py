"""``portward lab``: networks made of namespaces, to try the firewall on without a cloud."""

import os
from typing import Annotated, Any

import typer

from portward.cli.output import WRONG, Format, FormatOption, fail, out, show_json, show_rows
from portward.lab import Lab, LabPort
from portward.lab.plan import OUTSIDE, TENANT_NETWORKS

app = typer.Typer(no_args_is_help=True, help="Networks made of namespaces, to try the firewall on. Needs root.")

Name = Annotated[str, typer.Argument(help="What the lab is called.")]


@app.command()
def up(
    name: Name,
    networks: Annotated[int, typer.Option(min=2, max=len(TENANT_NETWORKS), help="Tenant networks.")] = 2,
    switch: Annotated[bool, typer.Option(help="Their hosts are virtual machines on Open vSwitch.")] = False,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Make a lab: hosts on tenant networks behind one router, and one outside. It stays until `portward lab down`."""
    _show(Lab.create(name, networks=networks, switch=switch), format_)


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="What the lab is called; none: list the labs.")] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show a lab's hosts, the router's ports, and how to register them; or list the labs that are up."""
    if name is None:
        labs = [Lab.open(up) for up in Lab.names()]
        rows = [(lab.name, len(lab.hosts) - 1, lab.router_netns) for lab in labs]
        show_rows(format_, ("name", "networks", "router"), rows, empty="no labs; `portward lab up NAME` makes one")
    else:
        _show(Lab.open(name), format_)


@app.command("exec", context_settings={"ignore_unknown_options": True})
def exec_(
    name: Name,
    host: Annotated[str, typer.Argument(help="red, blue, green, outside, or router.")],
    command: Annotated[list[str], typer.Argument(help="The command, behind `--`.")],
) -> None:
    """Run a command inside a host of the lab, or its router: `portward lab exec try red -- ip address`."""
    lab = Lab.open(name)
    namespaces = {"router": lab.router_netns} | {item.name: item.netns for item in lab.hosts.values()}
    if host not in namespaces:
        fail(f"lab {name} has no host {host!r}; it has {', '.join(namespaces)}", WRONG)
    try:
        os.execvp("ip", ["ip", "netns", "exec", namespaces[host], *command])
    except OSError as error:
        fail(f"ip: {error.strerror}; on Debian: apt install iproute2")


@app.command()
def down(
    name: Annotated[str | None, typer.Argument(help="What the lab is called.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every lab that is up.")] = False,
) -> None:
    """Remove a lab: its processes, its namespaces and all that is in them."""
    if (name is None) != all_:
        fail("give the name of a lab, or --all", WRONG)
    for lab in [Lab.open(up) for up in ([name] if name else Lab.names())]:
        lab.destroy()
        out.print(f"lab {lab.name} is down")


def _show(lab: Lab, format_: Format) -> None:
    hosts = [
        {"host": host.name, "netns": host.netns, "device": host.device, "addresses": [str(a) for a in host.addresses]}
        for host in lab.hosts.values()
    ]
    ports = [_port(port) for port in (*lab.ports.values(), *lab.vm_ports.values())]
    if format_ is Format.JSON:
        show_json(
            {"name": lab.name, "router_id": lab.router_id, "router_netns": lab.router_netns}
            | {"hosts": hosts, "ports": ports}
        )
        return
    for rows, columns in (
        (hosts, ("host", "netns", "device", "addresses")),
        (ports, ("port", "id", "device", "fixed_ips")),
    ):
        show_rows(format_, columns, [[row[column] for column in columns] for row in rows], empty="")
        out.print()
    out.print(f"[bold]The router is namespace {lab.router_netns}. Every host echoes on every TCP and UDP port; try[/]")
    talk = f"exec 3<>/dev/tcp/{lab.blue.address(4)}/22; echo hello >&3; head -n 1 <&3"
    out.print(f"  portward lab exec {lab.name} red -- bash -c '{talk}'", highlight=False, markup=False)
    out.print("[bold]Register the router's ports, and let a group protect one[/]")
    for port in lab.ports.values():
        if port.name != OUTSIDE:
            addresses = " ".join(f"--fixed-ip {address}" for address in port.fixed_ips)
            out.print(
                f"  portward port add {lab.name}-{port.name} --netns {port.netns} --device {port.device} "
                f"--device-id {port.router_id} --network {port.network_id} --mac {port.mac} {addresses}",
                highlight=False,
            )
    for port in lab.vm_ports.values():
        out.print(
            f"[bold]{port.name} is a virtual machine: on the switch in {port.netns}, {port.device} is[/] "
            f"portward port add --owner {port.device_owner}; docs/how-to/virtual-machines.md",
            highlight=False,
        )
    out.print(f"  openstack firewall group create --name guard --port {lab.name}-blue", highlight=False)


def _port(port: LabPort) -> dict[str, Any]:
    return {
        "port": port.name,
        "id": port.port_id,
        "device": port.device,
        "network_id": port.network_id,
        "mac": port.mac,
        "fixed_ips": [str(address) for address in port.fixed_ips],
        "device_owner": port.device_owner,
    }
