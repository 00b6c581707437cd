"""What every command needs first: the settings, and the API's client or the database made from them."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from portward.cli.http import Client
from portward.config import Settings, load
from portward.store import Store, upgrade


def settings(context: typer.Context) -> Settings:
    """The settings of this call; read once, when a command first asks.

    Raises:
        ConfigurationError: the configuration cannot be used.
    """
    root = context.find_root()
    if not isinstance(root.obj, Settings):
        root.obj = load(root.params.get("config"))
    return root.obj


def client(context: typer.Context) -> Client:
    """A client of the API that the settings name."""
    host, port = settings(context).api.address
    return Client(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


@contextmanager
def database(context: typer.Context) -> Iterator[Store]:
    """The database that the settings name, brought to this release's tables.

    Raises:
        StoreError: it cannot be used.
    """
    url = settings(context).database.url
    upgrade(url)
    store = Store(url)
    try:
        yield store
    finally:
        store.close()
