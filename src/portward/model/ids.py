"""The one form of id that leaves the store. Refuses every other spelling of the same UUID."""

import re

from portward.model.errors import InvalidValue

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check_id(value: str) -> str:
    """``value``, when it is a lower-case UUID with dashes, the only form of id that leaves the store.

    Raises:
        InvalidValue: it is anything else.
    """
    if not _UUID.fullmatch(value):
        raise InvalidValue(f"{value[:64]!r} is not a UUID")
    return value
