"""Whether others change our table, or rules of their own, told from the events of a namespace's nftables commits.

The kernel raises its generation before it sends a commit's events: those of our own commits are here when a commit
returns, those of others may be half here, and the rest comes later. So commits that concern our table are counted by
their events; the generation serves where events were lost.
"""

import struct
from types import TracebackType
from typing import Self

from portward.dataplane.nftables.netlink import NETFILTER, Netlink, attributes
from portward.dataplane.nftables.ruleset import TABLE

# linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h
_NFTABLES, _NEW_GENERATION, _GET_GENERATION = 10, 10 << 8 | 15, 10 << 8 | 16
_FAMILY_INET = 1
_GROUP = 7
_NAME = TABLE.split()[1].encode() + b"\0"
_OF_RULES = frozenset({10 << 8 | 2, 10 << 8 | 6, 10 << 8 | 8})  # table deleted; rule new, deleted


class TableWatch:
    """Watches the nftables of the calling thread's namespace, to which ``requests`` speaks.

    Raises:
        NetlinkError: it cannot be watched.
    """

    def __init__(self, requests: Netlink) -> None:
        self._requests = requests
        self._events = Netlink(NETFILTER, groups=(_GROUP,))
        self._generation = self._read_generation()  # of the last commit whose events were read
        self._touched = False  # whether the commit whose events are half read concerns our table
        self.others_changed = True  # whether rules in tables of others may have; whoever looked at them unsets it
        self._commits = 0  # our own since the events were last read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """A descriptor that becomes readable when anybody commits anything."""
        return self._events.fileno()

    def committed(self) -> None:
        """The caller has changed the table."""
        self._commits += 1

    def disturbed(self) -> bool:
        """Whether somebody else changed our table since this was last asked."""
        events = self._events.events()
        ours, self._commits = self._commits, 0
        if events is None:  # some were lost, ours perhaps; the generation tells whether anybody else committed at all
            self.others_changed = True
            before, self._generation, self._touched = self._generation, self._read_generation(), False
            return (self._generation - before) % 2**32 != ours
        commits = 0
        for kind, payload in events:
            if kind == _NEW_GENERATION:
                self._generation = int.from_bytes(attributes(payload[4:])[1], "big")
                commits, self._touched = commits + self._touched, False
            elif kind >> 8 == _NFTABLES:
                of_our_table = payload[0] == _FAMILY_INET and attributes(payload[4:]).get(1) == _NAME
                self._touched |= of_our_table
                self.others_changed |= kind in _OF_RULES and not of_our_table
        return commits != ours

    def close(self) -> None:
        """Let go of the sockets that are the watch's own."""
        self._events.close()

    def _read_generation(self) -> int:
        (answer,) = self._requests.request(_GET_GENERATION, struct.pack("!BBH", _FAMILY_INET, 0, 0))
        return int.from_bytes(attributes(answer[4:])[1], "big")
