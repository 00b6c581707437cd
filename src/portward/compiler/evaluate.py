"""What a compiled form says of a packet: the reference that back ends and tests read it by. Not made to be fast."""

from collections.abc import Mapping
from types import MappingProxyType

from portward.compiler.boxes import BITS, NO_PORT
from portward.compiler.form import Element, Field, Form, Linear, Ranges, Step, Table
from portward.model import AddressSet, Packet


def evaluate(form: Form, packet: Packet, sets: Mapping[str, AddressSet] = MappingProxyType({})) -> int | None:
    """The place of the first rule that matches ``packet``; ``None``: no rule does.

    ``sets`` maps ids to at least the address sets that the rules name.
    """
    tables = {(table.version, table.protocol): table for table in form.tables}
    table = tables.get((packet.ip_version, packet.protocol)) or tables.get((packet.ip_version, None))
    if table is None:
        return None
    values = (
        int(packet.source),
        int(packet.destination),
        _first_word(packet),
        NO_PORT if packet.destination_port is None else packet.destination_port,
        packet.protocol,
    )
    for step in table.steps:
        for rule, box, named in _candidates(table, step, values):
            inside = all(first <= value <= last for (first, last), value in zip(box, values, strict=True))
            addresses = {Field.SOURCE: packet.source, Field.DESTINATION: packet.destination}
            if inside and all(addresses[field] in sets[id_] for field, id_ in named):
                return rule
    return None


def _first_word(packet: Packet) -> int:
    """What stands where a protocol has its source port."""
    if packet.icmp_type is not None:
        return packet.icmp_type << 8 | (packet.icmp_code or 0)
    return NO_PORT if packet.source_port is None else packet.source_port


def _candidates(table: Table, step: Step, values: tuple[int, ...]) -> tuple[Element, ...]:
    if isinstance(step, Linear):
        return step.members
    if isinstance(step, Ranges):
        return step.members[::-1]  # any order is right; this one tells if they overlap
    return step.buckets.get(
        tuple(values[field] >> BITS[table.version][field] - length for field, length in step.key), ()
    )
