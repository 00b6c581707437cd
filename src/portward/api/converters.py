"""From what clients send to what the service takes: one converter a kind of attribute.

Each takes a value of JSON (or a string of a query) and returns the value to store, or raises ``InvalidValue`` with
Neutron's reason, or ``InvalidInput`` where Neutron fails to convert rather than to validate. Beside each stand the
JSON schemas of what it takes and of what is shown. Those of addresses are in ``address_converters``.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from portward.api.converter import Converter, any_case, described, or_null, short
from portward.model import InvalidValue
from portward.service.errors import InvalidInput

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ACTIONS = ("allow", "deny", "reject", "pass")
_PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "ipv6-icmp", 132: "sctp"}
_MAX_POSITION = 2**31 - 1  # what the database takes
#: Of one group.
MAX_PROJECTS = 10_000
_RANGE_SCHEMA = {"type": ["string", "null"], "pattern": "^[0-9]{1,5}(:[0-9]{1,5})?$"}


def string(limit: int) -> Converter[str]:
    """A string of at most ``limit`` characters; never null."""

    @described({"type": "string", "maxLength": limit})
    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidValue(f"'{short(value)}' is not a valid string.")
        if len(value) > limit:
            raise InvalidValue(f"'{short(value)}' exceeds maximum length of {limit}.")
        return value

    return convert


def string_or_empty(limit: int) -> Converter[str]:
    """As ``string``; null is the empty string."""
    convert = string(limit)
    return Converter(
        lambda value: "" if value is None else convert(value),
        {"type": ["string", "null"], "maxLength": limit},
        convert.shows,
    )


def string_or_null(limit: int) -> Converter[str | None]:
    """As ``string``; the empty string is null."""
    convert = string(limit)
    return Converter(lambda value: convert(value) or None, convert.takes, {"type": ["string", "null"]})


@described(
    {
        "anyOf": [
            {"type": "boolean"},
            {"enum": [0, 1]},
            {"type": "string", "pattern": f"^({any_case([*sorted(_TRUE), *sorted(_FALSE)])})$"},
        ]
    },
    {"type": "boolean"},
)
def boolean(value: Any) -> bool:
    """A boolean, in any of the spellings that Neutron takes."""
    text = str(value).lower() if isinstance(value, str | int) else ""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidInput(f"'{short(value)}' cannot be converted to boolean")


@described({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9]{1,18}$"}]}, {"type": "integer"})
def integer(value: Any) -> int:
    """An integer, or a string of digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    raise InvalidInput(f"'{short(value)}' is not an integer")


@described({"enum": [4, 6, "4", "6"]}, {"enum": [4, 6]})
def ip_version(value: Any) -> int:
    """4 or 6, as an integer or a string."""
    number = integer(value)
    if number not in (4, 6):
        raise InvalidValue(f"{number} is not in valid_values.")
    return number


@described(
    {
        "anyOf": [
            {"type": "null"},
            {"type": "integer", "minimum": 0, "maximum": 255},
            {"type": "string", "pattern": f"^({any_case([*_PROTOCOL_NAMES.values(), 'any'])}|[0-9]{{1,3}})$"},
        ]
    },
    {"type": ["string", "null"], "pattern": f"^({'|'.join(_PROTOCOL_NAMES.values())}|[0-9]{{1,3}})$"},
)
def protocol(value: Any) -> str | None:
    """One of Neutron's names in lower case, or a string of digits for a number without one; null for any."""
    if value is None or (isinstance(value, str) and value.lower() == "any"):
        return None
    text = str(value).lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text in _PROTOCOL_NAMES.values():
        return text
    if re.fullmatch(r"[0-9]{1,3}", text) and int(text) <= 255:
        return _PROTOCOL_NAMES.get(int(text), str(int(text)))
    raise InvalidInput(
        f"IP protocol '{short(value)}' is not supported. "
        "Only protocol names and their integer representation (0 to 255) are supported"
    )


@described({"type": "string", "pattern": f"^({any_case(_ACTIONS)})$"}, {"enum": list(_ACTIONS)})
def action(value: Any) -> str:
    """What a rule does, in lower case."""
    if not isinstance(value, str):
        raise InvalidInput(f"Input value {short(value)} must be string type")
    if value.lower() not in _ACTIONS:
        raise InvalidValue(f"{short(value)} is not in valid_values.")
    return value.lower()


def one_of(words: Iterable[str]) -> Converter[str]:
    """One of ``words``, as it is spelt."""
    known = [str(word) for word in words]

    @described({"enum": known})
    def convert(value: Any) -> str:
        if value not in known:
            raise InvalidValue(f"'{short(value)}' is not one of {', '.join(known)}.")
        return str(value)

    return convert


@described(
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": _MAX_POSITION},
            {"type": "string", "pattern": "^-?[0-9]{1,18}$"},
        ]
    },
    {"type": "integer", "minimum": 0, "maximum": _MAX_POSITION},
)
def position(value: Any) -> int:
    """A place in an order, from 0."""
    number = integer(value)
    if not 0 <= number <= _MAX_POSITION:
        raise InvalidValue(f"{number} is not in the range 0 to {_MAX_POSITION}.")
    return number


@described(
    {
        "type": ["array", "null"],
        "items": {"type": "string", "minLength": 1, "maxLength": 36},
        "uniqueItems": True,
        "maxItems": MAX_PROJECTS,
    },
    {"type": "array", "items": {"type": "string"}},
)
def project_list(value: Any) -> tuple[str, ...]:
    """Ids of projects, none twice; null is none."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) and 1 <= len(item) <= 36 for item in value):
        raise InvalidValue(f"'{short(value)}' is not a list of ids of projects.")
    if len(set(value)) != len(value):
        raise InvalidValue(f"Duplicate items in the list: '{short(', '.join(value))}'.")
    if len(value) > MAX_PROJECTS:
        raise InvalidValue(f"{len(value)} projects are more than {MAX_PROJECTS}.")
    return tuple(value)


@described(
    {
        "anyOf": [
            {"type": ["integer", "null"], "minimum": 0, "maximum": 255},
            {"type": "string", "pattern": "^-?[0-9]{1,18}$"},
        ]
    },
    {"type": ["integer", "null"], "minimum": 0, "maximum": 255},
)
def octet_or_null(value: Any) -> int | None:
    """A number from 0 to 255, or null."""
    number = None if value is None else integer(value)
    if number is not None and not 0 <= number <= 255:
        raise InvalidValue(f"{number} is not in the range 0 to 255.")
    return number


@described(
    {"anyOf": [_RANGE_SCHEMA, {"type": "integer", "minimum": 1, "maximum": 65535}]},
    _RANGE_SCHEMA,
)
def port_range(value: Any) -> str | None:
    """``"N"`` or ``"A:B"`` for a range that a packet can match; null for any.

    Port 0 alone is refused: clients mean "all ports" by it, and a rule must not widen in silence.
    """
    text = _port_range(value)
    if text in ("0", "0:0"):
        raise InvalidValue("port 0 alone cannot be matched; leave it out for all ports.")
    return None if text is None else _canonical_range(text)


@described(
    {"anyOf": [_RANGE_SCHEMA, {"type": "integer", "minimum": 0, "maximum": 65535}]},
    _RANGE_SCHEMA,
)
def port_range_or_clear(value: Any) -> str | None:
    """As ``port_range``; ``"0"`` clears the port, as Terraform does it."""
    return None if _port_range(value) == "0" else port_range(value)


@described({"type": "string", "format": "uuid", "pattern": f"^{_UUID.pattern}$"})
def uuid(value: Any) -> str:
    """The id of something else, in lower case."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise InvalidValue(f"'{short(value)}' is not a valid UUID.")
    return value.lower()


@described(or_null(uuid.takes))
def uuid_or_null(value: Any) -> str | None:
    """The id of something else, or null."""
    return None if value is None else uuid(value)


@described(
    {"type": ["array", "null"], "items": uuid.takes, "uniqueItems": True},
    {"type": "array", "items": uuid.takes},
)
def uuid_list(value: Any) -> tuple[str, ...]:
    """Ids, none twice, in order; null is none."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidValue(f"'{short(value)}' is not a list.")
    ids = Counter(uuid(item) for item in value)
    if twice := sorted(id_ for id_, times in ids.items() if times > 1):
        raise InvalidValue(f"Duplicate items in the list: '{short(', '.join(twice))}'.")
    return tuple(ids)


@described({"type": ["object", "null"]}, {"type": "object"})
def profile(value: Any) -> dict[str, Any]:
    """An object whose meaning is the host's; null is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidValue(f"'{short(value)}' is not a dictionary.")
    return value


def _port_range(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    bounds = text.split(":")
    if len(bounds) > 2 or (len(bounds) == 2 and not all(bounds)):
        raise InvalidValue("Port range must be two integers separated by a colon.")
    for bound in bounds:
        if not re.fullmatch(r"[0-9]{1,5}", bound) or int(bound) > 65535:
            raise InvalidValue(f"Invalid port: {short(bound if text else value)}.")
    first, last = int(bounds[0]), int(bounds[-1])
    if first > last:
        raise InvalidValue("First port in a port range must be lower than the second port.")
    return ":".join(str(int(bound)) for bound in bounds)


def _canonical_range(text: str) -> str:
    first, _, last = text.partition(":")
    return first if first == last else text
