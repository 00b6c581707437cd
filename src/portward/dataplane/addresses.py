"""The members of address sets as drivers lay them out: for each IP version prefixes that do not overlap. Pure.

A prefix that another one holds is left out, so an address that comes or goes is one prefix. Refuses to know what a set
is used for.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Self

import msgspec

from portward.model import AddressSet, InvalidValue, IPVersion, Prefix


class Members(msgspec.Struct, frozen=True):
    """What the address set ``id`` holds, by IP version. Equal values hold the same addresses."""

    id: str
    prefixes: Mapping[IPVersion, frozenset[Prefix]]


class AddressSets:
    """The address sets of a host. Each is looked at once, until it changes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[AddressSet, Members]] = {}

    def update(self, sets: Iterable[AddressSet]) -> Self:
        """Forget all sets but these."""
        known = self._known
        self._known = {}
        for source in sets:
            old = known.get(source.id)
            self._known[source.id] = old if old and old[0] is source else (source, members_of(source))
        return self

    def of(self, ids: Iterable[str]) -> dict[str, Members]:
        """What these sets hold, by their ids.

        Raises:
            InvalidValue: one of them is not there.
        """
        try:
            return {id_: self._known[id_][1] for id_ in ids}
        except KeyError as error:
            raise InvalidValue(f"address set {error.args[0]} is not part of the state") from error


def members_of(source: AddressSet) -> Members:
    """What ``source`` holds, without those of its prefixes that another one holds."""
    found: dict[IPVersion, frozenset[Prefix]] = {}
    versions: tuple[IPVersion, IPVersion] = (4, 6)
    for version in versions:
        spans = [
            (int(prefix.network_address), -int(prefix.broadcast_address), prefix)
            for prefix in source.members
            if prefix.version == version
        ]
        kept = []
        end = -1
        for _, last, prefix in sorted(spans, key=itemgetter(0, 1)):
            if -last > end:
                kept.append(prefix)
                end = -last
        found[version] = frozenset(kept)
    return Members(source.id, found)
