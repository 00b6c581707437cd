"""What can be wrong with the database as a whole; the messages are for the operator."""

from portward.model import PortwardError


class StoreError(PortwardError):
    """The database cannot be used; the message says why, and what to do."""


class TablesMissing(StoreError):
    """The database has no tables yet, or those of an older release: an upgrade makes them."""
