"""``portward host``: which hosts may run an agent. For the operator, on the machine that reaches the database."""

from typing import Annotated

import typer

from portward.cli.context import database
from portward.cli.output import Format, FormatOption, err, show_fields, show_rows
from portward.service import agents
from portward.store import now

app = typer.Typer(no_args_is_help=True, help="Register the hosts that enforce, and their agents' tokens.")


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="As in binding:host_id of its ports.")],
    format_: FormatOption = Format.TABLE,
) -> None:
    """Register a host and print its agent's token, which nobody can read again."""
    with database(context) as store:
        token = store.writing(lambda session: agents.add_host(session, name, now()))
    show_fields(format_, {"host": name, "token": token})
    if format_ is Format.TABLE:
        err.print(f"on {name}: PORTWARD_AGENT__HOST={name} PORTWARD_AGENT__TOKEN=... portward agent", style="dim")


@app.command("list")
def list_(context: typer.Context, format_: FormatOption = Format.TABLE) -> None:
    """List the hosts, and when their agents last asked."""
    with database(context) as store:
        hosts = store.reading(lambda session: agents.list_hosts(session, now()))
    rows = [
        (host.name, "revoked" if host.revoked_at else "silent" if host.silent else "up", host.last_poll_at,
         host.realised_generation, host.created_at)
        for host in hosts
    ]  # fmt: skip
    columns = ("name", "state", "last_poll_at", "realised_generation", "created_at")
    show_rows(format_, columns, rows, empty="no hosts; register one with `portward host add NAME`")


@app.command()
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="The host.")]) -> None:
    """Make a host's token worthless. What the host enforces stays enforced."""
    with database(context) as store:
        store.writing(lambda session: agents.revoke(session, name, now()))
