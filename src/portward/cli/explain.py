"""``portward explain``: who decides about a packet at a port, and why the rules before did not."""

from typing import Annotated, Any

import typer
from rich.text import Text

from portward.cli.context import client
from portward.cli.output import Format, FormatOption, out, plain, show_json, show_rows
from portward.cli.ports import find
from portward.model import Direction

_STYLE = {"allow": "bold green", "deny": "bold red", "reject": "bold yellow"}


def explain(
    context: typer.Context,
    port: Annotated[str, typer.Argument(help="Id or name of the port.")],
    direction: Annotated[Direction, typer.Argument(help="Seen from the network or VM that the port serves.")],
    source: Annotated[str, typer.Option(help="Address that the packet comes from.")],
    destination: Annotated[str, typer.Option(help="Address that it goes to.")],
    protocol: Annotated[str, typer.Option(help="tcp, udp, icmp, ... or a number.")] = "tcp",
    source_port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    destination_port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    icmp_type: Annotated[int | None, typer.Option(min=0, max=255)] = None,
    icmp_code: Annotated[int | None, typer.Option(min=0, max=255)] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Explain the verdict for the first packet of a connection."""
    packet: dict[str, Any] = {
        "protocol": protocol,
        "source": source,
        "destination": destination,
        "source_port": source_port,
        "destination_port": destination_port,
        "icmp_type": icmp_type,
        "icmp_code": icmp_code,
    }
    with client(context) as api:
        question = {"port_id": find(api, port)["id"], "direction": direction.value, "packet": packet}
        answer = api.post("/v2.0/fwaas/explain", {"explain": question})["explanation"]
    if format_ is Format.JSON:
        show_json(answer)
        return
    verdict = Text(f"{answer['verdict']}: ", _STYLE[answer["verdict"]])
    out.print(verdict + plain(answer["reason"]), highlight=False, soft_wrap=True)
    _show_deciders(answer)
    if answer["passed_over"]:
        which = "Rules before it" if answer["rule_name"] is not None else "Rules that were asked"
        out.print(f"\n{which}, and the first field in which each did not match:")
        rows = [
            (
                item["rule_name"] or item["rule_id"],
                item["policy_name"] or item["policy_id"],
                item["field"] or ("(hidden)" if item["rule_id"] is None else "(passed on)"),
                item["rule_says"],
                item["packet_has"],
            )
            for item in answer["passed_over"]
        ]
        show_rows(format_, ("rule", "policy", "field", "rule_says", "packet_has"), rows, empty="")


def _show_deciders(answer: dict[str, Any]) -> None:
    for what in ("group", "policy", "rule"):
        if answer[f"{what}_name"] is not None:
            name = answer[f"{what}_name"] or "(no name)"
            out.print(plain(f"  {what:<8} {name}  {answer[f'{what}_id'] or '(hidden)'}"), highlight=False)
