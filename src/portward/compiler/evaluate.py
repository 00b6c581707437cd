"""What a compiled form says of a packet: the reference that back ends and tests read it by. Not made to be fast."""

from portward.compiler.boxes import BITS, NO_PORT
from portward.compiler.form import Element, Form, Linear, Ranges, Step, Table
from portward.model import Packet


def evaluate(form: Form, packet: Packet) -> int | None:
    """The place of the first rule that matches ``packet``; ``None``: no rule does."""
    tables = {(table.version, table.protocol): table for table in form.tables}
    table = tables.get((packet.ip_version, packet.protocol)) or tables.get((packet.ip_version, None))
    if table is None:
        return None
    values = (
        int(packet.source),
        int(packet.destination),
        NO_PORT if packet.source_port is None else packet.source_port,
        NO_PORT if packet.destination_port is None else packet.destination_port,
        packet.protocol,
    )
    for step in table.steps:
        for rule, box in _candidates(table, step, values):
            if all(first <= value <= last for (first, last), value in zip(box, values, strict=True)):
                return rule
    return None


def _candidates(table: Table, step: Step, values: tuple[int, ...]) -> tuple[Element, ...]:
    if isinstance(step, Linear):
        return step.members
    if isinstance(step, Ranges):
        return step.members[::-1]  # any order is right; this one tells if they overlap
    return step.buckets.get(
        tuple(values[field] >> BITS[table.version][field] - length for field, length in step.key), ()
    )
