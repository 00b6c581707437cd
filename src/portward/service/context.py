"""Who calls, and when. Made once a request by whoever lets the caller in; passed to every function of ``service``."""

from datetime import datetime

import msgspec

from portward.config import DefaultFirewallGroup, Quotas


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A caller of the service."""

    project_id: str
    is_admin: bool
    roles: frozenset[str]
    request_id: str  # for logs and for the caller to quote
    now: datetime  # UTC without a zone; the time of everything that this call changes
    default_group: DefaultFirewallGroup = DefaultFirewallGroup()
    quotas: Quotas = Quotas()
