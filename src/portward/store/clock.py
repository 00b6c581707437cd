"""The time as the database keeps it. Whoever needs another clock is given one."""

from datetime import UTC, datetime


def now() -> datetime:
    """The time, in UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
