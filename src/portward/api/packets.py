"""A packet as a user describes it, for ``explain``."""

from ipaddress import ip_address
from typing import Any

from portward.api.converters import integer, protocol
from portward.api.errors import HTTPBadRequest
from portward.model import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, Address, InvalidValue, Packet

PACKET_FIELDS = frozenset(
    {"source", "destination", "protocol", "source_port", "destination_port", "icmp_type", "icmp_code"}
)
_NUMBERS = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "dccp": DCCP, "ipv6-icmp": ICMPV6, "sctp": SCTP}


def parse_packet(given: dict[str, Any]) -> Packet:
    """The packet that ``given`` (with keys of ``PACKET_FIELDS`` only) describes.

    Raises:
        BadRequest: it describes none.
    """
    name = protocol(given.get("protocol"))
    if name is None:
        raise HTTPBadRequest("Invalid input for protocol. Reason: a packet has one; give its name or number.")
    source = _address(given, "source")
    number = _NUMBERS[name] if name in _NUMBERS else int(name)
    if number == ICMP and source.version == 6:
        number = ICMPV6
    if number not in (ICMP, ICMPV6) and {"icmp_type", "icmp_code"} & {
        field for field in given if given[field] is not None
    }:
        raise HTTPBadRequest(f"Invalid input for packet. Reason: {name} has no icmp_type and no icmp_code.")
    try:
        return Packet(
            source=source,
            destination=_address(given, "destination"),
            protocol=number,
            source_port=_number(given, "source_port", 65535),
            destination_port=_number(given, "destination_port", 65535),
            icmp_type=_number(given, "icmp_type", 255),
            icmp_code=_number(given, "icmp_code", 255),
        )
    except InvalidValue as error:
        raise HTTPBadRequest(f"Invalid input for packet. Reason: {error}") from error


def _address(given: dict[str, Any], field: str) -> Address:
    value = given.get(field)
    try:
        if isinstance(value, str) and "%" not in value:
            return ip_address(value)
    except ValueError:
        pass
    raise HTTPBadRequest(f"Invalid input for {field}. Reason: '{value}' is not a valid IP address.")


def _number(given: dict[str, Any], field: str, highest: int) -> int | None:
    if given.get(field) is None:
        return None
    value = integer(given[field])
    if not 0 <= value <= highest:
        raise HTTPBadRequest(f"Invalid input for {field}. Reason: {value} is not 0 to {highest}.")
    return value
