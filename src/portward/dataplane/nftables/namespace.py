"""One router namespace: what stands there, and how it comes to what is wanted.

A namespace is changed in small steps while nobody else touches our table, and built anew beside what is there when
that is not known: when the agent starts, when somebody else changed the table, after a switch that failed. Building
anew takes over from an earlier life without a gap: its epoch is read from the kernel and raised once.
Foreign tables are never written; they are read for rules that write our bits of connection marks, no more.
"""

import os
import socket
import struct
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from enum import StrEnum
from types import TracebackType
from typing import Self

import structlog

from portward.dataplane.netns import in_namespace, namespace_id
from portward.dataplane.nftables import conntrack, counters
from portward.dataplane.nftables.adoption import NOTHING, look
from portward.dataplane.nftables.change import Change, Installed, Planner, delete_unknown, objects_of
from portward.dataplane.nftables.epochs import Epochs, MarkFilter
from portward.dataplane.nftables.foreign import MarkWriter, mark_writers
from portward.dataplane.nftables.libnftables import Nft, NftError, give_back_memory, load
from portward.dataplane.nftables.netlink import DUMP, NETFILTER, Netlink, NetlinkError, attribute, attributes
from portward.dataplane.nftables.ruleset import BASE_CHAIN, TABLE, owner_mark
from portward.dataplane.nftables.wanted import Wanted
from portward.dataplane.nftables.watch import TableWatch
from portward.dataplane.protocol import DataplaneError, Ledger, Reading
from portward.model import PortwardError

# linux/netfilter/nf_tables.h, linux/rtnetlink.h
_GET_TABLE = 10 << 8 | 1
_INET = struct.pack("!BBH", 1, 0, 0)
_GROUP_LINKS = 1
_GET_LINK, _IFINFOMSG, _IFLA_IFNAME, _IFLA_MASTER = 18, 16, 3, 10
_ENOENT = 2
#: How often a table that somebody else changes meanwhile is repaired in one go.
_ATTEMPTS = 3
_log = structlog.get_logger(__name__)
#: Characters from which on a text is loaded in a process of its own: libnftables takes 25 times as much memory for it,
#: and keeps it.
_BIG_LOAD = 1 << 19


class Step(StrEnum):
    """The steps of a change, in order. After each, what is denied is denied, should the agent die there."""

    MARKS_CLEARED = "marks cleared"  # of entries that bear a number about to be used again
    PREPARED = "prepared"
    EDITED = "edited"  # the members of an address set, which the policies in force see at once
    SWITCHED = "switched"  # the change is in force
    REMOVED = "removed"


class RouterNamespace:
    """A namespace held open, and the sockets that watch it.

    Args:
        name: of the namespace; ``None`` is the agent's own.
        fd: of the namespace; closed by ``close``.
        planner: writes the changes.
        ledger: takes what was counted by what a change removes; ``None``: nobody counts.
        on_step: called after each step of a change.

    Raises:
        NamespaceError, NetlinkError: it cannot be entered or watched.
    """

    def __init__(
        self, name: str | None, fd: int, *, planner: Planner, ledger: Ledger | None, on_step: Callable[[Step], None]
    ) -> None:
        self.name = name
        self._fd = fd
        self.id = namespace_id(fd)
        self._planner = planner
        self._epochs: Epochs = planner.epochs
        self._ledger = ledger
        self._on_step = on_step
        self._installed: Installed | None = None  # what stands, when that is certain
        self._loaded_apart = False  # whether this change had a text so large
        self._to_remove = ""  # the transaction that deletes what nothing leads to any more
        self._replaced: tuple[tuple[str, str], ...] = ()  # what that deletes and may have counted
        self._links: dict[str, bool] | None = None
        self.mark_writers: list[MarkWriter] = []  # rules of others, as of the last ``apply``, that write our bits
        with ExitStack() as undo:
            self._requests = undo.enter_context(in_namespace(fd, lambda: Netlink(NETFILTER)))
            self._watch = undo.enter_context(in_namespace(fd, lambda: TableWatch(self._requests)))
            self._route = undo.enter_context(
                in_namespace(fd, lambda: Netlink(socket.NETLINK_ROUTE, groups=(_GROUP_LINKS,)))
            )
            # Kept open: to close it after a commit waits until the kernel has freed what the commit deleted, 20 ms.
            self._nft = in_namespace(fd, Nft)
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def filenos(self) -> tuple[int, ...]:
        """Descriptors that become readable when links or nftables here change."""
        return self._watch.fileno(), self._route.fileno()

    def close(self) -> None:
        """Let go of the namespace. What is enforced stays enforced."""
        self._nft.close()
        self._requests.close()
        self._watch.close()
        self._route.close()
        os.close(self._fd)

    def links(self) -> dict[str, bool]:
        """Devices by name, as they were in the namespace when ``apply`` was last called, or later.

        The value says whether the device has a master, such as a bridge: packets then cross the master instead.
        """
        if self._links is None:
            self._links = in_namespace(self._fd, _read_links)
        return self._links

    def apply(self, wanted: Wanted) -> None:
        """Enforce ``wanted``; sends nothing when it is enforced already.

        Raises:
            DataplaneError: something was refused. What was enforced before still is, unless the message says that
                ``wanted`` is.
        """
        if self._route.events() != []:
            self._links = None
        for _ in range(_ATTEMPTS):
            if self._watch.disturbed():
                self._installed = None
            elif self._installed is not None and self._installed.wanted == wanted and not self._to_remove:
                if not self._mark_writers_gone():
                    return
                self._installed = None  # a build clears what they wrote
            self._enforce(wanted)
        if self._watch.disturbed():
            self._installed = None
            raise DataplaneError(f"another program changes table {TABLE} as fast as it is repaired; stop it")

    def _mark_writers_gone(self) -> bool:
        """Look for them if any may have come or gone; whether there were some and are none now."""
        before = self.mark_writers
        if self._watch.others_changed:
            self.mark_writers = mark_writers(self._requests, self._epochs.mask)
            self._watch.others_changed = False
        return bool(before) and not self.mark_writers

    def _enforce(self, wanted: Wanted) -> None:
        try:
            if self._installed is not None and self._installed.wanted != wanted:
                self._change(self._installed, wanted)
            if self._installed is None:
                self._build(wanted)
            self._remove_unused()
        except BaseException:
            # Also reads the events of its first half, which would wake the agent for ever. A transaction that failed
            # with an unknown end, as its process was killed, shows here if it was committed.
            if self._watch.disturbed():
                self._installed = None
            raise
        finally:
            if self._loaded_apart:
                self._loaded_apart = False
                give_back_memory()

    def _change(self, installed: Installed, wanted: Wanted) -> None:
        if self._to_remove:
            try:
                self._remove_unused()
            except DataplaneError:  # it may bear names that this change would use
                self._installed = None
                return
        epoch = self._epochs.after(installed.epoch)
        which = self._epochs.to_clear(epoch)
        if which is not None:
            self._clear_marks(which)
        change = self._planner.change(installed, wanted, epoch=epoch)
        self._prepare_and_switch(change)
        self._installed = change.result
        self._to_remove, self._replaced = change.remove, change.replaced

    def _build(self, wanted: Wanted) -> None:
        found = look(self._nft, self._epochs) if self.has_table() else NOTHING
        if not found.usable:
            self._remove(f"delete table {TABLE}\n", found.objects)
            found = NOTHING
        epoch = self._epochs.after(found.epoch or 0)
        for _ in range(self._epochs.last):
            if self._epochs.marks(epoch).isdisjoint(found.marks):
                break
            epoch = self._epochs.after(epoch)
        else:
            raise DataplaneError(
                f"table {TABLE} is full of changes that died half-way; `portward agent cleanup` ends it"
            )
        # Any mark may be of an earlier life, which may have gone further than what is found: an older ruleset put
        # back, or a build that died. Those that chains which may still be in force write cannot be cleared for good
        # before the switch; none of them is the new epoch's.
        self._clear_marks(conntrack.ALL, spare=found.marks)
        leftovers = found.objects
        if found.unused:
            with suppress(NftError):  # else a change that fails again and again would leave more each time
                self._remove(delete_unknown(found.unused), found.unused)
                leftovers = tuple(item for item in leftovers if item not in set(found.unused))
        change = self._planner.build(wanted, serial=found.serial + 1, epoch=epoch, leftovers=leftovers)
        self._prepare_and_switch(change)
        if found.marks:
            self._clear_marks(conntrack.ALL, spare=self._epochs.marks(epoch))
        self._installed = change.result
        self._to_remove, self._replaced = change.remove, change.replaced

    def counters(self) -> tuple[Reading, ...]:
        """What the rules in force have counted since they were written.

        Raises:
            DataplaneError, OSError: they cannot be read.
        """
        return () if self._installed is None else counters.read(self._requests, objects_of(self._installed))

    def keep_counts(self) -> None:
        """Hand to the ledger what the rules in force have counted, as far as it can be read."""
        if self._installed is not None:
            self._keep_counts(objects_of(self._installed))

    def has_table(self) -> bool:
        """Whether our table is here, whoever made it."""
        try:
            self._requests.request(_GET_TABLE, _INET + attribute(1, TABLE.split()[1].encode() + b"\0"))
        except NetlinkError as error:
            if error.errno == _ENOENT:
                return False
            raise
        return True

    def is_ours(self) -> bool:
        """Whether the table that is here was built by this agent, in this life or an earlier one.

        Raises:
            DataplaneError: it cannot be listed.
        """
        return self._installed is not None or (
            self.has_table() and owner_mark(self._planner.owner) in look(self._nft, self._epochs).owners
        )

    def remove(self) -> bool:
        """Take away our table and our bits of all connection marks, so that no trace is left; was there a table?

        Raises:
            DataplaneError: something was refused.
        """
        self._installed = None
        self._to_remove, self._replaced = "", ()
        if not self.has_table():
            return False
        self._run(f"add table {TABLE}\nadd chain {TABLE} {BASE_CHAIN}\nflush chain {TABLE} {BASE_CHAIN}\n")
        self._on_step(Step.SWITCHED)
        self._clear_marks(conntrack.ALL)
        self._remove(f"delete table {TABLE}\n", look(self._nft, self._epochs).objects if self._ledger else ())
        self._on_step(Step.REMOVED)
        return True

    def _prepare_and_switch(self, change: Change) -> None:
        self._run(change.prepare)
        self._installed = None  # a prepare that is refused leaves nothing; from here on something is there
        self._on_step(Step.PREPARED)
        if change.edit:
            self._requests.transaction(change.edit)
            self._watch.committed()
            self._on_step(Step.EDITED)
        self._run(change.switch)
        self._on_step(Step.SWITCHED)

    def _remove_unused(self) -> None:
        try:
            self._remove(self._to_remove, self._replaced)
        except NftError as error:  # the next call tries again
            raise DataplaneError(f"enforced, but what it replaced could not be removed: {error}") from error
        self._to_remove, self._replaced = "", ()
        self._on_step(Step.REMOVED)

    def _remove(self, text: str, objects: Collection[tuple[str, str]]) -> None:
        """Run ``text``, which deletes ``objects``, once what these counted is kept. Counting never stops a change."""
        counted = self._keep_counts(objects)
        self._run(text)
        if self._ledger is not None:
            self._ledger.forget(counted)

    def _keep_counts(self, objects: Collection[tuple[str, str]]) -> Collection[Reading]:
        """Hand what ``objects`` counted to the ledger, as far as it can be read."""
        if self._ledger is None or not objects:
            return ()
        try:
            counted = counters.read(self._requests, objects)
        except (PortwardError, OSError) as error:
            _log.warning("counts_lost", namespace=self.name, reason=str(error))
            return ()
        self._ledger.keep(counted)
        return counted

    def _run(self, text: str) -> None:
        if text:
            if len(text) < _BIG_LOAD:
                self._nft.run(text)
            else:
                self._loaded_apart = True
                in_namespace(self._fd, lambda: load(text))
            self._watch.committed()

    def _clear_marks(self, which: MarkFilter, spare: frozenset[int] = frozenset()) -> None:
        in_namespace(self._fd, lambda: conntrack.clear_marks(self._epochs.mask, which, spare))
        self._on_step(Step.MARKS_CLEARED)


def _read_links() -> dict[str, bool]:
    with Netlink(socket.NETLINK_ROUTE) as netlink:
        found = [attributes(link[_IFINFOMSG:]) for link in netlink.request(_GET_LINK, bytes(_IFINFOMSG), DUMP)]
    return {link[_IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"): _IFLA_MASTER in link for link in found}
