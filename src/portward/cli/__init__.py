"""The ``portward`` command."""

from pathlib import Path
from typing import Annotated

import typer

from portward import __version__
from portward.cli import hosts, lab, policies, ports, servers, users
from portward.cli.doctor import doctor
from portward.cli.explain import explain
from portward.cli.output import FAILED, WRONG, say_error
from portward.config import ConfigurationError
from portward.model import InvalidValue, PortwardError

app = typer.Typer(
    name="portward",
    help="Firewall-as-a-Service V2 for router ports and VM ports.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(servers.run)
app.command()(servers.api)
app.add_typer(servers.agent_app, name="agent")
app.add_typer(servers.db_app, name="db")
app.add_typer(hosts.app, name="host")
app.add_typer(users.app, name="user")
app.add_typer(ports.app, name="port")
app.add_typer(policies.app, name="policy")
app.command()(explain)
app.command()(doctor)
app.add_typer(lab.app, name="lab")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"portward {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    config: Annotated[
        Path | None, typer.Option(help="TOML file; else PORTWARD_CONFIG, else /etc/portward/portward.toml.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; what Portward refuses ends it with one sentence and an exit status, not with a traceback."""
    try:
        app()
    except (ConfigurationError, InvalidValue) as error:
        say_error(str(error))
        raise SystemExit(WRONG) from None
    except (PortwardError, OSError) as error:
        say_error(str(error))
        raise SystemExit(FAILED) from None
