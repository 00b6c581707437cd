"""Who calls: what every auth mode makes of a request's headers, or refuses to."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who has shown who they are. ``roles`` are in lower case, those that a role implies among them."""

    project_id: str  # "": a caller of no project, who sees and may do nothing
    roles: frozenset[str]
    user: str = ""  # for the log


#: From a request's headers to its caller.
#:
#: Raises:
#:     portward.api.errors.Unauthenticated: they show none.
#:     ServiceError: whoever it is, such a request is not taken (403), or nobody can tell now (503).
Identify = Callable[[Mapping[str, str]], Awaitable[Caller]]

_IMPLIED = {"admin": ("member", "reader"), "member": ("reader",)}


def with_implied(roles: Iterable[str]) -> frozenset[str]:
    """``roles`` in lower case, and those they imply: admin implies member, member implies reader."""
    given = {role.lower() for role in roles}
    return frozenset(given.union(*(_IMPLIED.get(role, ()) for role in given)))
