"""Counting packets where they are sent and where they arrive, by nft counters in the hosts' own namespaces.

What is counted at the receiver before anything else can be dropped there, so that a flood ends where it was
measured.
"""

import itertools
import re
from collections.abc import Mapping
from enum import Enum

from portward.lab.namespaces import nft

_COUNTER = re.compile(r"counter (\w+) \{\s*packets (\d+)")
_numbers = itertools.count(1)


class Place(Enum):
    """Where in a host's namespace is counted: its nft hook."""

    SENT = "output"
    ARRIVED = "prerouting"


class Counters:
    """One counter a match, in table ``inet <name>`` of ``netns``; the first match counts. Remove it after use."""

    def __init__(self, netns: str, place: Place, matches: Mapping[str, str], *, drop: bool = False) -> None:
        """Count by ``matches``: name of the counter to an nft match. ``drop``: what was counted goes no further."""
        self._netns = netns
        self._table = f"lab_count_{next(_numbers)}"
        verdict = "drop" if drop else "accept"
        lines = [f"add table inet {self._table}"]
        lines += [f"add counter inet {self._table} {name}" for name in matches]
        lines.append(
            f"add chain inet {self._table} count {{ type filter hook {place.value} priority raw; policy accept; }}"
        )
        lines += [
            f"add rule inet {self._table} count {match} counter name {name} {verdict}"
            for name, match in matches.items()
        ]
        nft(netns, "\n".join(lines))

    def packets(self) -> dict[str, int]:
        """Packets counted so far, by the counters' names."""
        listing = nft(self._netns, f"list counters table inet {self._table}")
        return {name: int(packets) for name, packets in _COUNTER.findall(listing)}

    def remove(self) -> None:
        """Stop counting."""
        nft(self._netns, f"delete table inet {self._table}")
