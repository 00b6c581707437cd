"""``portward port``: the inventory, for people whose ports no OpenStack registers."""

from typing import Annotated, Any

import typer

from portward.cli.context import client, settings
from portward.cli.effective import set_names, show_deciding
from portward.cli.http import Client
from portward.cli.output import Format, FormatOption, fail, show_fields, show_json, show_rows

app = typer.Typer(no_args_is_help=True, help="Register the ports that firewall groups may protect.")

PATH = "/v2.0/ports"
GROUPS_PATH = "/v2.0/fwaas/firewall_groups"


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What you call the port.")],
    device: Annotated[str | None, typer.Option(help="Network device that realises it, such as eth1.")] = None,
    netns: Annotated[str | None, typer.Option(help="Network namespace of the device; none: the agent's own.")] = None,
    host: Annotated[str | None, typer.Option(help="Host it is on, as its agent is named; none: this machine.")] = None,
    owner: Annotated[str, typer.Option(help="Neutron's device_owner.")] = "network:router_interface",
    device_id: Annotated[str, typer.Option(help="The router or VM, as Neutron's device_id.")] = "",
    network: Annotated[str, typer.Option(help="Id of its network.")] = "",
    mac: Annotated[str, typer.Option(help="Its MAC address.")] = "",
    fixed_ip: Annotated[list[str] | None, typer.Option(help="An address of it; may be repeated.")] = None,
    project: Annotated[str | None, typer.Option(help="Project that owns it.")] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Register a port. A router on this machine: `portward port add lan --device eth1`."""
    port: dict[str, Any] = {
        "name": name,
        "device_owner": owner,
        "device_id": device_id,
        "binding:host_id": settings(context).agent.host if host is None else host,
        "binding:profile": {key: value for key, value in (("netns", netns), ("device", device)) if value is not None},
        "fixed_ips": [{"ip_address": address} for address in fixed_ip or ()],
    }
    optional = {"network_id": network, "mac_address": mac, "project_id": project}
    port |= {key: value for key, value in optional.items() if value}
    with client(context) as api:
        made = api.post(PATH, {"port": port})["port"]
    show_fields(format_, _fields(made))


@app.command("list")
def list_(context: typer.Context, format_: FormatOption = Format.TABLE) -> None:
    """List the ports."""
    columns: tuple[str, ...] = ("name", "id", "device", "addresses", "groups")
    if format_ is Format.JSON:
        columns = ("id", "name", "project", "owner", "device_id", "host", "netns", *columns[2:])
    with client(context) as api:
        ports = api.get(PATH)["ports"]
        groups = api.get(GROUPS_PATH)["firewall_groups"]
    groups_of: dict[str, list[str]] = {}
    for group in groups:
        for port in group["ports"]:
            groups_of.setdefault(port, []).append(group["name"] or group["id"])
    rows = []
    for port in ports:
        fields = {**_fields(port), "groups": groups_of.get(port["id"], [])}
        rows.append([fields[column] for column in columns])
    show_rows(format_, columns, rows, empty="no ports; register one with `portward port add`")


@app.command()
def show(
    context: typer.Context,
    port: Annotated[str, typer.Argument(help="Id or name.")],
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show a port, the groups that decide for it, in order, with their rules, and whether its host does as asked."""
    with client(context) as api:
        found = find(api, port)
        fields = _fields(found) | {"realised": None, "error": None}
        groups = api.get(GROUPS_PATH, ports=found["id"])["firewall_groups"]
        status = {group["id"]: group["status"] for group in groups}
        of_port = []
        for group in groups:
            # How far hosts are with a group is for its project, and for admins, who alone see where a port is bound.
            if group["project_id"] == found["project_id"] or "binding:host_id" in found:
                realisation = api.get(f"{GROUPS_PATH}/{group['id']}/realisation")["realisation"]
                of_port += [item for item in realisation["ports"] if item["port_id"] == found["id"]]
        if of_port:
            errors = [item["error"] for item in of_port if item["error"]]
            fields |= {"realised": all(item["realised"] for item in of_port), "error": (errors or [None])[0]}
        deciding = api.get(f"/v2.0/fwaas/effective/{found['id']}")["effective"]["groups"]
        names = {} if format_ is Format.JSON else set_names(api, deciding)
    deciding = [group | {"status": status.get(group["id"])} for group in deciding]
    if format_ is Format.JSON:
        show_json(fields | {"groups": deciding})
        return
    show_fields(format_, fields)
    show_deciding(deciding, names)


@app.command()
def remove(context: typer.Context, port: Annotated[str, typer.Argument(help="Id or name.")]) -> None:
    """Forget a port. It leaves its group, and is not filtered any more."""
    with client(context) as api:
        api.delete(f"{PATH}/{find(api, port)['id']}")


def find(api: Client, wanted: str) -> dict[str, Any]:
    """The one port whose id, else whose name, is ``wanted``.

    Raises:
        typer.Exit: there is none, or there are several.
    """
    for key in ("id", "name"):
        found = api.get(PATH, **{key: wanted})["ports"]
        if len(found) == 1:
            return dict(found[0])
        if found:
            fail(f"{len(found)} ports are named {wanted!r}; give the id (`portward port list`)")
    fail(f"no port {wanted!r}; `portward port list` shows them")


def _fields(port: dict[str, Any]) -> dict[str, Any]:
    profile = port.get("binding:profile", {})  # for admins, as is the host
    return {
        "id": port["id"],
        "name": port["name"],
        "project": port["project_id"],
        "owner": port["device_owner"],
        "device_id": port["device_id"],
        "host": port.get("binding:host_id"),
        "netns": profile.get("netns"),
        "device": profile.get("device"),
        "mac": port["mac_address"],
        "addresses": [address["ip_address"] for address in port["fixed_ips"]],
    }
