"""``portward doctor``: what this machine lacks, for which command, and what to install.

It changes nothing: kernel features are tried in a network namespace without a name, which ends with the thread
that made it. With a token it asks the API once for this host's state, as the agent does.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.text import Text

from portward.api import check
from portward.channel.client import Client
from portward.cli.output import FAILED, Format, FormatOption, err, show_rows
from portward.config import ConfigurationError, Settings, load
from portward.dataplane.netns import DIRECTORY
from portward.dataplane.nftables import foreign, support
from portward.dataplane.nftables.libnftables import Nft
from portward.dataplane.privileges import lacking
from portward.model import PortwardError
from portward.store import TablesMissing, check_revision, without_password


class Use(StrEnum):
    """What a finding is needed for."""

    API = "api"
    AGENT = "agent"
    LAB = "lab"
    DEMO = "demo"


class Finding(NamedTuple):
    """One thing that was looked at; ``remedy`` is what to do when it is not ``ok``."""

    what: str
    needed_for: str
    ok: bool
    found: str
    remedy: str


def doctor(
    context: typer.Context,
    only: Annotated[Use | None, typer.Option(help="Only what is needed for this.")] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Say what this machine lacks, and what to install. Exit status 1 when something is missing."""
    findings = [item for item in _look(context) if only is None or only in item.needed_for.split()]
    columns = ("ok", "what", "needed_for", "found", "remedy")
    rows = [
        (_verdict(item.ok, format_), item.what, item.needed_for, item.found, "" if item.ok else item.remedy)
        for item in findings
    ]
    show_rows(format_, columns, rows, empty="nothing is needed")
    missing = sum(not item.ok for item in findings)
    if missing:
        err.print(f"{missing} of {len(findings)} missing")
        raise typer.Exit(FAILED)


def _verdict(ok: bool, format_: Format) -> bool | Text:
    return ok if format_ is Format.JSON else Text("ok", "green") if ok else Text("MISSING", "bold red")


def _look(context: typer.Context) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "Python 3.11 or newer", "api agent lab demo", sys.version_info >= (3, 11), version, "Debian 12 or newer"
    )
    missing = lacking()
    held = f"lacks {' '.join(missing)}" if missing else "all that are needed"
    remedy = "run as root (sudo), or give the service these capabilities"
    yield Finding("capabilities", "agent lab demo", not missing, held, remedy)
    yield _attempt(
        "libnftables", "agent demo", lambda: Nft().close(), "install nftables (Debian: apt install nftables)"
    )
    if not missing:
        for feature in support.FEATURES:
            yield _attempt(f"kernel: {feature.name}", "agent demo", partial(support.attempt, feature), support.NEEDED)
    for command, package, used in (("ip", "iproute2", "lab demo"), ("nft", "nftables", "lab demo")):
        path = shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        yield Finding(f"command {command}", used, path is not None, path or "not found", f"apt install {package}")
    client = Path(sys.executable).with_name("openstack")
    found = str(client) if client.exists() else shutil.which("openstack")
    yield Finding(
        "command openstack", "demo", found is not None, found or "not found", "pip install 'portward[client]'"
    )
    yield Finding("named namespaces", "lab demo", *_namespaces(), "install iproute2; mount a tmpfs on /run")
    try:
        settings = load(context.find_root().params.get("config"))
    except ConfigurationError as error:
        yield Finding("configuration", "api agent", False, str(error), "see docs/reference/configuration.md")
        return
    yield Finding("configuration", "api agent", True, "valid", "")
    yield _attempt(
        f"auth mode {settings.auth.mode}, policy rules, TLS",
        "api",
        lambda: check(settings),
        "see docs/how-to/identity.md and docs/how-to/operate.md",
    )
    if not missing:
        yield _marks(settings)
    yield _database(settings.database.url)
    yield _token(settings)
    if settings.agent.token:
        yield _attempt(
            f"the API at {settings.agent.api}",
            "agent",
            lambda: _ask(settings),
            "see docs/how-to/several-hosts.md; the agent enforces what it last had meanwhile",
        )


def _attempt(what: str, used: str, trial: Callable[[], object], remedy: str) -> Finding:
    try:
        trial()
    except PortwardError as error:
        return Finding(what, used, False, str(error), remedy)
    return Finding(what, used, True, "works", remedy)


def _marks(settings: Settings) -> Finding:
    what, mask = "connection marks", settings.nftables.ct_mark_mask
    try:
        writers = foreign.mark_writers_beside_us(mask, own_namespace=settings.agent.allow_root_namespace)
    except PortwardError as error:
        return Finding(what, "agent", False, str(error), "see docs/design/nftables.md")
    found = "; ".join(f"namespace {name}: {writer}" for name, those in writers.items() for writer in those)
    return Finding(what, "agent", not found, found or f"only Portward writes bits {mask:#x}", foreign.ELSEWHERE)


def _database(url: str) -> Finding:
    try:
        check_revision(url)
    except PortwardError as error:
        remedy = "start or restore the database, or correct [database] url; see docs/how-to/choose-a-database.md"
        if isinstance(error, TablesMissing):
            remedy = "`portward db upgrade`; `portward api` and `portward run` do it when they start"
        return Finding("database", "api", False, str(error), remedy)
    return Finding("database", "api", True, without_password(url), "")


def _namespaces() -> tuple[bool, str]:
    place = DIRECTORY if DIRECTORY.exists() else DIRECTORY.parent
    return os.access(place, os.W_OK), f"{place} is {'' if os.access(place, os.W_OK) else 'not '}writable"


def _token(settings: Settings) -> Finding:
    found = f"host {settings.agent.host}, " + ("a token" if settings.agent.token else "no token")
    remedy = f"`portward host add {settings.agent.host}` where the API runs; `portward run` needs none"
    return Finding("agent's token", "agent", bool(settings.agent.token), found, remedy)


def _ask(settings: Settings) -> None:
    client = Client(settings.agent.api, settings.agent.token, ca_file=settings.agent.ca_file)
    try:
        client.poll(wait=0)
    finally:
        client.close()
