"""What every command needs first: the settings, and the client made from them."""

from pathlib import Path

import typer

from portward.cli.http import Client
from portward.cli.output import WRONG, fail
from portward.config import ConfigurationError, Settings, load


def settings(context: typer.Context) -> Settings:
    """The settings of this call; read once, when a command first asks.

    Raises:
        typer.Exit: with code 2, after saying what is wrong with the configuration.
    """
    root = context.find_root()
    if not isinstance(root.obj, Settings):
        path: Path | None = root.params.get("config")
        try:
            root.obj = load(path)
        except ConfigurationError as error:
            fail(str(error), WRONG)
    return root.obj


def client(context: typer.Context) -> Client:
    """A client of the API that the settings name."""
    host, port = settings(context).api.address
    return Client(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
