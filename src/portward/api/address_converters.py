"""As ``converters``, for addresses: of rules, of address groups, and of ports, with their pairs and MACs."""

import re
from ipaddress import ip_address, ip_network
from typing import Any

from portward.api.converter import described, items, or_null, short
from portward.api.converters import uuid
from portward.model import InvalidValue
from portward.service.address_groups import MAX_ADDRESSES

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+(/(0|[1-9][0-9]{0,2}))?")
_ADDRESS_SCHEMA = {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+$"}
_PREFIX_SCHEMA = {"type": "string", "pattern": f"^{_ADDRESS.pattern}$"}


@described({"anyOf": [_PREFIX_SCHEMA, {"enum": [None, ""]}]}, or_null(_PREFIX_SCHEMA))
def address_or_prefix(value: Any) -> str | None:
    """An address or prefix as the user wrote it, host bits included; null or empty for any."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        try:
            ip_network(value, strict=False)
        except ValueError:
            pass
        else:
            return value
    raise InvalidValue(f"'{short(value)}' is neither a valid IP address, nor is it a valid IP subnet.")


@described(
    {"type": ["array", "null"], "items": _PREFIX_SCHEMA},
    {"type": "array", "items": _PREFIX_SCHEMA},
)
def prefix_list(value: Any) -> tuple[str, ...]:
    """Addresses and prefixes in their canonical form, without host bits, none twice; null is none."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidValue(f"'{short(value)}' is not a list.")
    if len(value) > MAX_ADDRESSES:
        raise InvalidValue(f"{len(value)} addresses are more than {MAX_ADDRESSES}.")
    return tuple(dict.fromkeys(canonical_prefix(item) for item in value))


@described(_PREFIX_SCHEMA)
def canonical_prefix(value: Any) -> str:
    """An address or prefix in its canonical form."""
    text = address_or_prefix(value)
    if text is None:
        raise InvalidValue(f"'{short(value)}' is not a valid IP subnet.")
    return str(ip_network(text, strict=False))


@described(
    {"type": ["string", "null"], "pattern": "^([0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5})?$"},
    {"type": "string", "pattern": f"^({_MAC.pattern})?$"},
)
def mac_address(value: Any) -> str:
    """A MAC address in lower case with colons; null or empty for none known."""
    if value is None or value == "":
        return ""
    text = value.lower().replace("-", ":") if isinstance(value, str) else ""
    if not _MAC.fullmatch(text):
        raise InvalidValue(f"'{short(value)}' is not a valid MAC address.")
    return text


@described(
    or_null(items({"ip_address": _ADDRESS_SCHEMA}, subnet_id=or_null(uuid.takes))),
    items({"ip_address": _ADDRESS_SCHEMA}, subnet_id=uuid.takes),
)
def fixed_ips(value: Any) -> list[dict[str, str]]:
    """Addresses of a port: a list of ``{"ip_address": ..., "subnet_id": ...}``, the subnet optional."""
    fixed = []
    for item in _objects(value, required="ip_address", optional="subnet_id"):
        entry = {"ip_address": _address(item["ip_address"])}
        if item.get("subnet_id") is not None:
            entry["subnet_id"] = uuid(item["subnet_id"])
        fixed.append(entry)
    return fixed


@described(
    or_null(items({"ip_address": _PREFIX_SCHEMA}, mac_address={"type": ["string", "null"]})),
    items({"ip_address": _PREFIX_SCHEMA}, mac_address={"type": "string"}),
)
def address_pairs(value: Any) -> list[dict[str, str]]:
    """Further sources of a port: a list of ``{"ip_address": ..., "mac_address": ...}``, the MAC optional."""
    pairs = []
    for item in _objects(value, required="ip_address", optional="mac_address"):
        address = address_or_prefix(item["ip_address"])
        if address is None:
            raise InvalidValue("'ip_address' of an allowed address pair is empty.")
        mac = mac_address(item.get("mac_address"))
        pairs.append({"ip_address": address, "mac_address": mac} if mac else {"ip_address": address})
    return pairs


def _address(value: Any) -> str:
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        try:
            return str(ip_address(value))
        except ValueError:
            pass
    raise InvalidValue(f"'{short(value)}' is not a valid IP address.")


def _objects(value: Any, *, required: str, optional: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidValue(f"'{short(value)}' is not a list.")
    for item in value:
        if not isinstance(item, dict) or required not in item or not item.keys() <= {required, optional}:
            raise InvalidValue(f"each item is an object with {required}, and {optional} if you like.")
    return value
