"""Which connection-tracking zone each VM port has. Pure.

A zone is a port's alone, so equal addresses of two tenants never meet. Zones are given out in turn, so that one is not
used again soon; whoever gets a new one must see to it that it is empty.
"""

from collections.abc import Mapping

from portward.dataplane.protocol import DataplaneError


class ZonesExhausted(DataplaneError):
    """There are more VM ports than zones."""


class Zones:
    """Zones from ``first`` to ``last``, both included."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._next = first
        self._held: dict[str, int] = {}

    def give(self, kept: Mapping[str, int | None]) -> tuple[dict[str, int], frozenset[str]]:
        """The zone of each port, by its id, and the ports whose zone is new to them.

        ``kept`` is, by port, what was written down as its zone, and are all the ports there are.

        Raises:
            ZonesExhausted: too many ports.
        """
        given: dict[str, int] = {}
        taken: set[int] = set()
        for source in (self._held, kept):
            for id_ in kept:
                zone = source.get(id_)
                if id_ not in given and zone is not None and self._first <= zone <= self._last and zone not in taken:
                    given[id_] = zone
                    taken.add(zone)
        new = frozenset(kept.keys() - given.keys())
        if len(kept) > self._last - self._first + 1:
            raise ZonesExhausted(
                f"{len(kept)} VM ports and {self._last - self._first + 1} zones: raise [openvswitch] zones"
            )
        for id_ in sorted(new):
            given[id_] = self._free(taken)
            taken.add(given[id_])
        self._held = given
        return dict(given), new

    def _free(self, taken: set[int]) -> int:
        while self._next in taken:
            self._advance()
        zone = self._next
        self._advance()
        return zone

    def _advance(self) -> None:
        self._next = self._first if self._next == self._last else self._next + 1
