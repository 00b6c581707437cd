"""One table: which flow decides for a packet, conjunctions included (ovs-fields(7), "Conjunctive Match Fields")."""

from collections.abc import Iterable

from fake_switch.fields import Fields
from portward.dataplane.openvswitch.flows import Conjunction, Field, Flow


class PipelineError(AssertionError):
    """Flows of which nobody can say what they do to a packet, or that do what the switch does not bear."""


Signature = tuple[tuple[Field, int | None], ...]


class Table:
    """Flows that stand in one table, sorted by the fields and masks that they match on."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self._subtables: dict[Signature, dict[tuple[int, ...], dict[int, Flow]]] = {}
        self._conjunctive = False
        for flow in flows:
            self.add(flow)

    def add(self, flow: Flow) -> None:
        """Put ``flow`` in, in place of one with the same key."""
        signature = tuple((condition.field, condition.mask) for condition in flow.key.match)
        values = tuple(condition.value for condition in flow.key.match)
        self._subtables.setdefault(signature, {}).setdefault(values, {})[flow.key.priority] = flow
        self._conjunctive |= is_conjunctive(flow)

    def find(self, fields: Fields) -> Flow | None:
        """The flow that decides; ``None``: there is none, and the packet is dropped.

        Raises:
            PipelineError: more than one does, and they do different things.
        """
        matching = self._matching(fields)
        if not self._conjunctive:
            return _highest(matching)
        hard = _highest([flow for flow in matching if not is_conjunctive(flow)])
        soft = [flow for flow in matching if is_conjunctive(flow)]
        for priority in sorted({flow.key.priority for flow in soft}, reverse=True):
            if hard is not None and hard.key.priority > priority:
                return hard
            complete = _complete([flow for flow in soft if flow.key.priority == priority])
            if len(complete) > 1:
                raise PipelineError(f"conjunctions {complete} match one packet at priority {priority}")
            if not complete:
                continue
            if hard is not None and hard.key.priority == priority:
                raise PipelineError(f"conjunction {complete} and {hard} match one packet at one priority")
            before = fields[Field.CONJ_ID]
            fields[Field.CONJ_ID] = complete.pop()
            found = _highest([flow for flow in self._matching(fields) if not is_conjunctive(flow)])
            fields[Field.CONJ_ID] = before
            return found
        return hard

    def _matching(self, fields: Fields) -> list[Flow]:
        found: list[Flow] = []
        for signature, flows in self._subtables.items():
            values = tuple([fields[field] if mask is None else fields[field] & mask for field, mask in signature])
            if values in flows:
                found.extend(flows[values].values())
        return found


def is_conjunctive(flow: Flow) -> bool:
    """Whether it is a dimension of conjunctions, and nothing by itself."""
    return any(isinstance(action, Conjunction) for action in flow.actions)


def _highest(flows: list[Flow]) -> Flow | None:
    """The flow of highest priority of ``flows``, which all match."""
    if not flows:
        return None
    top = max(flows, key=lambda flow: flow.key.priority)
    for other in flows:
        if other.key.priority == top.key.priority and other.actions != top.actions:
            raise PipelineError(f"two flows match one packet at one priority:\n{top}\n{other}")
    return top


def _complete(flows: list[Flow]) -> set[int]:
    """The conjunctions of which every dimension has a match."""
    dimensions: dict[tuple[int, int], set[int]] = {}
    for flow in flows:
        for action in flow.actions:
            assert isinstance(action, Conjunction)
            dimensions.setdefault((action.id, action.clauses), set()).add(action.clause)
    return {id_ for (id_, clauses), there in dimensions.items() if len(there) == clauses}
