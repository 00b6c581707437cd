"""``portward api``, ``agent``, ``db`` and ``run``: the processes, as they are started by hand or by systemd."""

import gc
from typing import Annotated

import typer

from portward import agent as host_agent
from portward import api as http_api
from portward.cli.context import database, settings
from portward.cli.output import err, out, plain
from portward.cli.supervisor import AgentProcess
from portward.config import host_port
from portward.dataplane.privileges import require
from portward.service import agents
from portward.store import now, without_password

#: How many objects more there must be before Python looks for cycles. With its own number (700) every few changes of a
#: large policy have the whole heap looked through, which takes tens of milliseconds: longer than the change itself.
_GARBAGE_THRESHOLD = 50_000

agent_app = typer.Typer(invoke_without_command=True, help="The agent of this host: enforce what the API says.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")


def api(context: typer.Context) -> None:
    """Run the API, and the listener for the agents of the hosts. Needs no privilege."""
    gc.set_threshold(_GARBAGE_THRESHOLD)
    http_api.serve(settings(context))


@agent_app.callback()
def agent(context: typer.Context) -> None:
    """Run the agent of this host. Stopping it removes nothing."""
    if context.invoked_subcommand is None:
        gc.set_threshold(_GARBAGE_THRESHOLD)
        host_agent.run(settings(context))


@agent_app.command()
def cleanup(context: typer.Context, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove all that the agent enforces on this host, and say what is open afterwards."""
    if not yes:
        typer.confirm("After this, Portward filters nothing on this host. Go on?", abort=True)
    opened = host_agent.cleanup(settings(context))
    for line in opened:
        out.print(plain(line), highlight=False)
    if not opened:
        err.print("nothing was enforced here", style="dim")


@db_app.command()
def upgrade(context: typer.Context) -> None:
    """Bring the database to the tables of this release."""
    with database(context):
        err.print(plain(f"the database {without_password(settings(context).database.url)} is up to date"), style="dim")


def run(context: typer.Context) -> None:
    """Run API and agent on this machine, with SQLite in one file. The agent is started again when it ends."""
    require()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    configuration = settings(context)
    host = configuration.agent.host
    with database(context) as store, AgentProcess(context.find_root().params.get("config"), host) as process:

        def start_agent(_api: tuple[str, int], agent_api: tuple[str, int]) -> None:
            if configuration.agent_api.tls_cert is not None:
                url = configuration.agent.api  # by the name that the certificate is for
            else:
                url = f"http://{host_port(*agent_api)}"
            # Not before the listeners are ours: a second `portward run` must not take the first one's token.
            process.start(url, store.writing(lambda session: agents.renew_token(session, host, now())))

        http_api.serve(configuration, on_ready=start_agent)
