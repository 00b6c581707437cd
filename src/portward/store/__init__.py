"""The tables, how to reach them, and the migrations that build them."""

from portward.store.clock import now
from portward.store.engine import among, without_password
from portward.store.errors import StoreError, TablesMissing
from portward.store.migrate import check_revision, upgrade
from portward.store.store import Store, raise_generation

__all__ = [
    "Store",
    "StoreError",
    "TablesMissing",
    "among",
    "check_revision",
    "now",
    "raise_generation",
    "upgrade",
    "without_password",
]
