"""``portward user``: who may call in auth mode ``http_basic``. For the operator, on the machine with the users' file.

A password is asked for, or read from standard input; an argument would show in the list of processes.
"""

import sys
from typing import Annotated

import typer

from portward.api.identity.users import User, hash_password, read_users, remove_user, write_user
from portward.cli.context import settings
from portward.cli.output import WRONG, Format, FormatOption, fail, show_rows

app = typer.Typer(no_args_is_help=True, help="The users of auth mode http_basic ([auth] users_file).")

_Name = Annotated[str, typer.Argument(help="The user.")]
_FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command()
def add(
    context: typer.Context,
    name: _Name,
    project: Annotated[str, typer.Option(help="Id of the user's project.")],
    role: Annotated[list[str], typer.Option(help="admin, member or reader; may be repeated.")],
    password_stdin: _FromStdin = False,
) -> None:
    """Add a user, whose password is asked for twice. A running API knows it at once."""
    path = settings(context).auth.users_file
    if path.exists() and name in read_users(path):
        fail(f"there is a user {name!r}; `portward user set-password` or `portward user remove`")
    password_hash = hash_password(_password(password_stdin))
    roles = tuple(dict.fromkeys(one.lower() for one in role))
    write_user(path, User(name=name, password_hash=password_hash, project_id=project, roles=roles))


@app.command("set-password")
def set_password(context: typer.Context, name: _Name, password_stdin: _FromStdin = False) -> None:
    """Give a user another password. The old one is worthless at once."""
    path = settings(context).auth.users_file
    user = read_users(path).get(name)
    if user is None:
        fail(f"there is no user {name!r}; `portward user list` shows them")
    password_hash = hash_password(_password(password_stdin))
    write_user(path, User(name=name, password_hash=password_hash, project_id=user.project_id, roles=user.roles))


@app.command("list")
def list_(context: typer.Context, format_: FormatOption = Format.TABLE) -> None:
    """List the users."""
    users = read_users(settings(context).auth.users_file).values()
    rows = [(user.name, user.project_id, user.roles) for user in users]
    show_rows(format_, ("name", "project", "roles"), rows, empty="no users; add one with `portward user add`")


@app.command()
def remove(context: typer.Context, name: _Name) -> None:
    """Remove a user, whom a running API refuses at once."""
    path = settings(context).auth.users_file
    if name not in read_users(path):
        fail(f"there is no user {name!r}; `portward user list` shows them")
    remove_user(path, name)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        fail("no terminal to ask for the password; give it on standard input with --password-stdin", WRONG)
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
