"""One host's state, divided among the dataplanes of this host, and their reports put together again.

Each kind of port has at most one dataplane. Every port of the state gets a line in the report, whatever happens: a
port that no dataplane realises, or about which one says nothing, is in error, never taken for enforced.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from portward.dataplane.protocol import Dataplane, Reading
from portward.model import Direction, HostState, PortKind, PortReport, PortwardError, Report

_log = structlog.get_logger(__name__)
_NAMES = {
    PortKind.VM: "VM ports",
    PortKind.ROUTER: "router ports",
    PortKind.DISTRIBUTED_ROUTER: "distributed router ports",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a state. ``may_heal``: something failed that applying again may repair."""

    report: Report
    may_heal: bool


class Drivers:
    """The dataplanes of this host, by the kind of port that each realises; all called from one thread."""

    def __init__(self, dataplanes: Mapping[PortKind, Dataplane]) -> None:
        self._dataplanes = dict(dataplanes)

    def apply(self, state: HostState) -> Outcome:
        """Enforce ``state`` with every dataplane, also with those that have no port in it any more."""
        said: dict[str, str | None] = {}
        for kind, dataplane in self._dataplanes.items():
            said |= _apply(dataplane, part_of(state, kind))
        ports = []
        for covered in state.ports:
            id_, kind = covered.port.id, covered.port.kind
            if kind not in self._dataplanes:
                error: str | None = f"no dataplane of this host realises {_NAMES[kind]}"
            else:
                error = said.get(id_, "the dataplane said nothing about this port")
            ports.append(PortReport(port_id=id_, error=error))
        may_heal = any(dataplane.unfinished() for dataplane in self._dataplanes.values()) or any(
            report.error is not None and covered.port.kind in self._dataplanes
            for report, covered in zip(ports, state.ports, strict=True)
        )
        return Outcome(Report(generation=state.generation, ports=tuple(ports)), may_heal)

    def watched(self) -> Collection[int]:
        """Descriptors of all dataplanes; one is readable: apply again."""
        return {fd for dataplane in self._dataplanes.values() for fd in dataplane.watched()}

    def counters(self) -> list[Reading]:
        """What the rules of all dataplanes have counted; one that fails is logged and left out."""
        found: list[Reading] = []
        for dataplane in self._dataplanes.values():
            try:
                found += dataplane.counters()
            except Exception:
                _log.exception("counters_not_read")
        return found

    def cleanup(self) -> tuple[str, ...]:
        """Remove all that any of them ever put on this host; says what is unfiltered from now on.

        Raises:
            CleanupFailed: something could not be removed.
        """
        return tuple(line for dataplane in self._dataplanes.values() for line in dataplane.cleanup())

    def close(self) -> None:
        """Let go of sockets and threads; what is enforced stays enforced."""
        for dataplane in self._dataplanes.values():
            dataplane.close()


def part_of(state: HostState, kind: PortKind) -> HostState:
    """The ports of ``kind`` in ``state``, the policies and sets that they use, and for a switch those it lets pass."""
    ports = tuple(covered for covered in state.ports if covered.port.kind is kind)
    used = {group.policy_id(direction) for covered in ports for group in covered.groups for direction in Direction}
    policies = tuple(policy for policy in state.policies if policy.id in used)
    admitted = state.admitted if kind is PortKind.VM else ()
    rules = (rule for policy in policies for rule in policy.rules)
    named = {id_ for rule in rules for id_ in (rule.source_set, rule.destination_set) if id_ is not None}
    sets = tuple(set_ for set_ in state.sets if set_.id in named)
    return HostState(generation=state.generation, ports=ports, policies=policies, sets=sets, admitted=admitted)


def _apply(dataplane: Dataplane, state: HostState) -> dict[str, str | None]:
    """Port id -> error. A dataplane that fails as a whole fails every port of it; the agent goes on."""
    try:
        return {port.port_id: port.error for port in dataplane.apply(state).ports}
    except PortwardError as error:
        _log.error("dataplane_failed", generation=state.generation, reason=str(error))
        reason = str(error)
    except Exception:
        _log.exception("dataplane_failed", generation=state.generation)
        reason = "internal error of the dataplane; the agent's log has it"
    return {covered.port.id: reason for covered in state.ports}
