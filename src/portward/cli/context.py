"""What every command needs first: the settings, and the API's client or the database made from them."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from portward.cli.http import Client
from portward.config import Settings, host_port, load
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
    """A client of the API that the settings name, as the user they name."""
    chosen = settings(context)
    user = chosen.client
    credentials: dict[str, str] = {}
    if user.token:
        credentials["X-Auth-Token"] = user.token
    elif user.username:
        pair = f"{user.username}:{user.password}".encode()
        credentials["Authorization"] = f"Basic {b64encode(pair).decode()}"
    return Client(user.url or _own_url(chosen), headers=credentials, ca_file=user.ca_file)


def _own_url(chosen: Settings) -> str:
    if chosen.api.socket_path is not None:
        return chosen.api.listen
    host, port = chosen.api.address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # all addresses are none to connect to
    scheme = "http" if chosen.api.tls_cert is None else "https"
    return f"{scheme}://{host_port(host, port)}"


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
