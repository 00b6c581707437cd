"""``portward policy``: what the rules of a policy do."""

from typing import Annotated, Any

import typer
from rich.text import Text

from portward.cli.context import client
from portward.cli.http import Client
from portward.cli.output import Format, FormatOption, fail, plain, show_rows

app = typer.Typer(no_args_is_help=True, help="See what the rules of a policy do.")

PATH = "/v2.0/fwaas/firewall_policies"
_STYLE = {"allow": "green", "deny": "red", "reject": "yellow"}


@app.callback()
def _policy() -> None:
    pass


@app.command()
def counters(
    context: typer.Context,
    policy: Annotated[str, typer.Argument(help="Id or name.")],
    format_: FormatOption = Format.TABLE,
) -> None:
    """Show how often each rule decided: connections where it allows, packets where it does not.

    Hosts tell it about every ten seconds. A dash: the rule is another project's.
    """
    with client(context) as api:
        counted = api.get(f"{PATH}/{_find(api, policy)['id']}/counters")["counters"]
    columns: tuple[str, ...] = ("rule", "action", "packets", "bytes", "last", "since")
    if format_ is Format.JSON:
        columns = ("rule_id", "rule_name", *columns[1:])
    rows = [[_cell(format_, rule, column) for column in columns] for rule in counted]
    show_rows(format_, columns, rows, empty="the policy has no rules")


def _find(api: Client, wanted: str) -> dict[str, Any]:
    for key in ("id", "name"):
        found = api.get(PATH, **{key: wanted})["firewall_policies"]
        if len(found) == 1:
            return dict(found[0])
        if found:
            fail(f"{len(found)} policies are named {wanted!r}; give the id")
    fail(f"no policy {wanted!r}; `openstack firewall group policy list` shows them")


def _cell(format_: Format, rule: dict[str, Any], column: str) -> Any:
    if column == "rule":
        return rule["rule_name"] or rule["rule_id"]
    value = rule[column]
    if format_ is Format.JSON or value is None:
        return value
    if column == "action":
        return plain(value) if value not in _STYLE else Text(value, _STYLE[value])
    return f"{value:,}" if isinstance(value, int) else value
