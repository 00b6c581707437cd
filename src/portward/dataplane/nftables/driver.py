"""The dataplane of router ports: which namespace enforces what, and what becomes of each port.

It refuses the namespace that the agent runs in unless allowed, ports of virtual machines, and a device that two
ports claim. A namespace that fails keeps what it enforced and leaves the others alone.
"""

import os
import select
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress

import structlog

from portward.dataplane.addresses import AddressSets
from portward.dataplane.lists import Policies
from portward.dataplane.netns import (
    DIRECTORY,
    NamespaceError,
    NamespaceId,
    NoSuchNamespace,
    namespace_id,
    open_namespace,
)
from portward.dataplane.nftables import support
from portward.dataplane.nftables.change import Planner
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.namespace import RouterNamespace, Step
from portward.dataplane.nftables.ports import enforce, unsuitable
from portward.dataplane.nftables.ruleset import ReversePath
from portward.dataplane.protocol import CleanupFailed, Ledger, Reading
from portward.model import (
    CoveredPort,
    HostState,
    InvalidValue,
    PortReport,
    PortwardError,
    Report,
)

_log = structlog.get_logger(__name__)


class OwnNamespace(NamespaceError):
    """A port is bound in the namespace that the agent runs in, and that is not allowed."""


#: Errors of opening a namespace that tell that nothing of ours is there.
_NOTHING_THERE = (NoSuchNamespace, OwnNamespace, InvalidValue)


class NftablesDataplane:
    """Enforces router ports with nftables, one table ``inet portward`` in each of their namespaces.

    Args:
        ct_mark_mask: the bits of connection marks that are ours; at least 4, adjacent.
        reverse_path: what is dropped on covered ports: packets from a source that is not routed back through the
            device they came by (``strict``) or not routed at all (``loose``).
        allow_root_namespace: whether ports may be bound in the namespace of this process.
        owner: of the tables: they are told from those of another agent on this machine, which are left alone in
            namespaces where no port of ours is bound.
        ledger: takes what was counted by rules that a change removes; ``None``: that is lost.
        on_step: called after each step of a change in a namespace.
    """

    def __init__(
        self,
        *,
        ct_mark_mask: int = 0xFFFF,
        reverse_path: ReversePath = "strict",
        allow_root_namespace: bool = False,
        owner: str = "",
        ledger: Ledger | None = None,
        on_step: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._planner = Planner(owner=owner, epochs=Epochs(ct_mark_mask), reverse_path=reverse_path)
        self._allow_root_namespace = allow_root_namespace
        self._ledger = ledger
        self._on_step = on_step
        self._own = _identity(None)
        self._namespaces: dict[NamespaceId, RouterNamespace] = {}
        self._policies = Policies()
        self._sets = AddressSets()
        self._adopted = self._supported = self._unfinished = False
        self._watch = select.epoll()
        # Namespaces come and go as mounts; the kernel reports a changed mount table as a priority event.
        self._mounts = open("/proc/self/mountinfo", "rb")  # noqa: SIM115
        self._watch.register(self._mounts, select.EPOLLPRI)

    def apply(self, state: HostState) -> Report:
        """Enforce ``state`` on all router ports of the host; see ``Dataplane.apply``.

        Raises:
            Unsupported: this machine cannot do it; nothing was touched.
        """
        if not self._supported:
            support.require()
            self._supported = True
        self._watch.poll(0)  # what is mounted from here on is news for the next call
        errors = {port.port.id: unsuitable(port) for port in state.ports}
        bound: dict[str | None, list[CoveredPort]] = {}
        for port in state.ports:
            if port.groups and port.port.binding is not None and errors[port.port.id] is None:
                bound.setdefault(port.port.binding.netns, []).append(port)
        shares: dict[NamespaceId, list[CoveredPort]] = {}
        closed = False
        for name, ports in bound.items():
            try:
                shares.setdefault(self._open(name).id, []).extend(ports)
            except (PortwardError, OSError) as error:
                errors.update(dict.fromkeys((port.port.id for port in ports), str(error)))
                closed |= not isinstance(error, _NOTHING_THERE)
        self._unfinished = False
        if not closed:  # else it may be any of those where no port seems to be covered
            self._leave(keep=shares, vanished=bound)
        self._policies.update(state.policies)
        self._sets.update(state.sets)
        for identity, ports in shares.items():
            errors.update(enforce(self._namespaces[identity], ports, self._policies, self._sets))
        reports = tuple(PortReport(port_id=port_id, error=error) for port_id, error in errors.items())
        return Report(generation=state.generation, ports=reports)

    def watched(self) -> Collection[int]:
        """One descriptor, always the same; see ``Dataplane.watched``."""
        return (self._watch.fileno(),)

    def unfinished(self) -> bool:
        """Whether a namespace in which no port is covered could not be left; see ``Dataplane.unfinished``."""
        return self._unfinished

    def counters(self) -> Collection[Reading]:
        """What all rules in force have counted; see ``Dataplane.counters``."""
        found: list[Reading] = []
        for namespace in self._namespaces.values():
            try:
                found += namespace.counters()
            except (PortwardError, OSError) as error:
                _log.warning("counts_not_read", namespace=namespace.name, reason=str(error))
        return found

    def cleanup(self) -> tuple[str, ...]:
        """Remove our tables and marks from every namespace; see ``Dataplane.cleanup``."""
        said, failed = [], False
        for name in self._all_names():
            label = "the agent's own namespace" if name is None else f"namespace {name}"
            try:
                namespace = self._open(name)
                if namespace.is_ours() and namespace.remove():
                    said.append(f"{label}: forwarded traffic is no longer filtered by Portward")
            except _NOTHING_THERE:
                continue
            except (PortwardError, OSError) as error:
                failed = True
                said.append(f"{label}: could not be cleaned, what was enforced still is: {error}")
        self._forget(self._namespaces)
        if failed:
            raise CleanupFailed("\n".join(said))
        return tuple(said)

    def close(self) -> None:
        """Let go of everything that is open; see ``Dataplane.close``. May be called again."""
        self._forget(self._namespaces)
        self._watch.close()
        self._mounts.close()

    def _open(self, name: str | None) -> RouterNamespace:
        """The namespace that has this name now, which may be another than it was.

        Raises:
            OwnNamespace: it is the agent's own, by whatever name.
            NamespaceError, NetlinkError, InvalidValue: it is not there, or cannot be entered.
        """
        fd = open_namespace(name)
        with ExitStack() as undo:
            undo.callback(os.close, fd)
            identity = namespace_id(fd)
            if identity == self._own and not self._allow_root_namespace:
                raise OwnNamespace(
                    "the port is bound in the agent's own namespace; bind it to another, "
                    "or set [agent] allow_root_namespace"
                )
            if identity not in self._namespaces:
                namespace = RouterNamespace(name, fd, planner=self._planner, ledger=self._ledger, on_step=self._on_step)
                undo.pop_all()
                undo.callback(namespace.close)
                for watched in namespace.filenos():
                    self._watch.register(watched, select.EPOLLIN)
                self._namespaces[identity] = namespace
                undo.pop_all()
        return self._namespaces[identity]

    def _leave(self, *, keep: Collection[NamespaceId], vanished: Collection[str | None]) -> None:
        """Stop enforcing where no port is covered, at first also what an earlier life of the agent enforced there."""
        if not self._adopted:
            self._adopted = True
            for name in self._all_names():
                try:
                    self._open(name)
                except _NOTHING_THERE:
                    continue
                except (PortwardError, OSError) as error:
                    _log.warning("cannot see whether an earlier agent filters here", namespace=name, error=str(error))
                    self._adopted, self._unfinished = False, True
        for identity in self._namespaces.keys() - keep:
            namespace = self._namespaces[identity]
            try:
                if namespace.name in vanished:
                    namespace.keep_counts()  # for the last time: it ends when it is let go
                elif namespace.is_ours():
                    namespace.remove()
            except (PortwardError, OSError) as error:  # no port is there to say so; the next call tries again
                _log.warning("still filtered although no port is covered", namespace=namespace.name, error=str(error))
                self._unfinished = True
                continue
            self._forget([identity])

    def _forget(self, identities: Iterable[NamespaceId]) -> None:
        for identity in list(identities):
            self._namespaces.pop(identity).close()

    def _all_names(self) -> list[str | None]:
        """Every namespace that may hold a table of ours."""
        names: list[str | None] = [None] if self._allow_root_namespace else []
        with suppress(FileNotFoundError):
            names += sorted(os.listdir(DIRECTORY))
        return names


def _identity(name: str | None) -> NamespaceId:
    fd = open_namespace(name)
    try:
        return namespace_id(fd)
    finally:
        os.close(fd)
