"""A request as far as its meaning needs it, and the questions that each call about one item asks first.

Their order: is there such an item for the caller (404), may the caller do this (403), is it still the revision that
the caller means (412). Whether the request makes sense (400) was settled before, without the database.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session
from starlette.datastructures import Headers, QueryParams

from portward.api.authorisation import Authority
from portward.api.errors import BadIfMatch, RevisionNumberConstraintFailed
from portward.api.resource import Resource
from portward.service.context import Context
from portward.service.rows import AnyRow

_REVISION = re.compile(r'"?revision_number="?([0-9]{1,18})"?')


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request of an identified caller. ``address`` is its URL as the client knows it, without the query."""

    context: Context
    authority: Authority
    address: str
    path: Mapping[str, str]  # its variable parts, by name
    query: QueryParams
    body: bytes
    revision: int | None  # that If-Match names

    def find(self, session: Session, resource: Resource, rules: Iterable[str]) -> AnyRow:
        """The item of the path, which the caller may do with what ``rules`` are about; in its expected revision.

        Raises:
            NotFound: there is none, or not for this caller.
            PolicyNotAuthorized: the caller may not.
            RevisionNumberConstraintFailed: it has changed meanwhile.
        """
        row: AnyRow = resource.find(session, self.context, self.path["id"])
        if not self.authority.sees(resource.schema.singular, row):
            raise resource.missing(self.path["id"])
        self.authority.require(rules, row.project_id, shared=getattr(row, "shared", False))
        if self.revision is not None and self.revision != row.revision_number:
            raise RevisionNumberConstraintFailed(self.revision, row.revision_number)
        return row


#: What a request means: what to do in its transaction, and what to answer as JSON. It refuses bad input (400) at
#: once, before there is a transaction.
Operation = Callable[[Call], Callable[[Session], Any]]


def expected_revision(headers: Headers) -> int | None:
    """The revision that ``If-Match`` names; ``None``: any (no such header, or ``*``).

    Raises:
        BadIfMatch: it names none.
    """
    given = [value.strip() for value in headers.getlist("if-match")]
    if not given or given == ["*"]:
        return None
    match = _REVISION.fullmatch(given[0])
    if match is None or len(given) > 1:
        raise BadIfMatch
    return int(match[1])
