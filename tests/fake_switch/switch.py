"""A bridge that has flows and nothing else: frames go in by a port, and come out by others.

The bridge has no ports of its own: whatever number a flow outputs to is a port. Refuses flows that Open vSwitch
refuses (``RefusedFlow``), and raises ``PipelineError`` where a pipeline is ambiguous or exceeds a limit of the switch.
"""

from collections.abc import Iterable

from fake_switch.connections import Zone, is_held
from fake_switch.fields import (
    Fields,
    Masked,
    fields_of,
    forget_tracking,
    is_ip,
    is_tagged,
    lacks,
    masked,
    refusal,
    write,
    write_bits,
)
from fake_switch.frame import Frame, mac_text
from fake_switch.table import PipelineError, Table, is_conjunctive
from portward.dataplane.openvswitch.flows import (
    Action,
    Clone,
    Commit,
    Condition,
    Conjunction,
    CtClear,
    Field,
    Flow,
    FlowKey,
    Learn,
    Load,
    Move,
    Output,
    OutputField,
    PopVlan,
    PushVlan,
    Resubmit,
    Track,
    matching,
)

__all__ = ["FakeSwitch", "PipelineError", "RefusedFlow"]

#: Resubmits to the same table or an earlier one may be nested so deep; there may be so many in all (ovs-actions(7)).
_DEEPEST, _MOST = 64, 4096
_READ_ONLY = {Field.ETH_TYPE, Field.CT_STATE, Field.CT_MARK, Field.IP_PROTO, Field.IP_FRAG, Field.CONJ_ID}
_TAG = 0x1000
_NOWHERE = 0  # no port has this number


class RefusedFlow(AssertionError):
    """The switch would not take this flow."""


class FakeSwitch:
    """The bridge with ``flows``; what frames teach it, and the connections that they make, stay."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self.zones: dict[int, Zone] = {}
        self.learnt: dict[FlowKey, Flow] = {}
        self.replace(flows)

    def replace(self, flows: Iterable[Flow]) -> None:
        """Have ``flows`` in place of those before; connections live on, and so does what was learnt.

        Raises:
            RefusedFlow: the switch would refuse one of them.
        """
        self.flows: dict[FlowKey, Flow] = {}
        by_table: dict[int, list[Flow]] = {}
        for flow in flows:
            _check(flow)
            if flow.key in self.flows:
                raise RefusedFlow(f"a second flow with this key: {flow}")
            self.flows[flow.key] = flow
            by_table.setdefault(flow.key.table, []).append(flow)
        for learnt in self.learnt.values():
            by_table.setdefault(learnt.key.table, []).append(learnt)
        self._tables = {number: Table(its) for number, its in by_table.items()}

    def forget_learnt(self) -> None:
        """Let the time of every learnt flow pass."""
        self.learnt.clear()
        self.replace(self.flows.values())

    def flush(self, zone: int) -> None:
        """Forget the connections of ``zone``."""
        self.zones.pop(zone, None)

    def send(self, in_port: int, frame: Frame) -> list[tuple[int, Frame]]:
        """What goes out, in order, and by which ports, when ``frame`` comes in by ``in_port``.

        Raises:
            PipelineError: two flows decide for it, or it is resubmitted too often.
        """
        crossing = _Crossing(self, frame)
        crossing.look_up(0, fields_of(frame, in_port), _Budget(), 0)
        return crossing.sent

    def table(self, number: int) -> Table:
        """Table ``number``, empty if no flow stands in it."""
        if number not in self._tables:
            self._tables[number] = Table([])
        return self._tables[number]

    def zone(self, number: int) -> Zone:
        """The connections of zone ``number``."""
        return self.zones.setdefault(number, Zone())


class _Budget:
    """How many resubmits a translation has had; what follows connection tracking is another."""

    def __init__(self) -> None:
        self.used = 0


class _Crossing:
    """One frame on its way through the tables."""

    def __init__(self, switch: FakeSwitch, frame: Frame) -> None:
        self._switch = switch
        self._frame = frame
        self.sent: list[tuple[int, Frame]] = []

    def look_up(self, table: int, fields: Fields, budget: _Budget, depth: int) -> None:
        """Do what the flow of ``table`` that decides says."""
        flow = self._switch.table(table).find(fields)
        if flow is not None:
            self._do(flow.actions, table, fields, budget, depth)

    def _do(self, actions: tuple[Action, ...], table: int, fields: Fields, budget: _Budget, depth: int) -> None:
        for action in actions:
            match action:
                case Output(port):
                    self._output(port, fields)
                case OutputField(field):
                    self._output(fields[field], fields)
                case Resubmit(other):
                    budget.used += 1
                    deeper = depth + (other <= table)
                    if budget.used > _MOST or deeper > _DEEPEST:
                        raise PipelineError(f"resubmitted too often: {budget.used} times, {deeper} deep")
                    self.look_up(other, fields, budget, deeper)
                case Track(other, zone):
                    if not is_held(self._frame):
                        tracked = dict(fields)
                        self._switch.zone(fields[zone] & 0xFFFF).track(tracked, self._frame)
                        self.look_up(other, tracked, _Budget(), 0)
                    forget_tracking(fields)
                case Commit(zone, mark):
                    if not is_held(self._frame):
                        self._switch.zone(fields[zone] & 0xFFFF).commit(self._frame, mark)
                    forget_tracking(fields)
                case Clone(others):
                    self._do(others, table, dict(fields), budget, depth)
                case Learn():
                    self._learn(action, fields)
                case _:
                    _alter(action, fields)

    def _output(self, port: int, fields: Fields) -> None:
        if port not in (_NOWHERE, fields[Field.IN_PORT]):
            tag = fields[Field.VLAN_VID]
            changes = {
                "eth_src": mac_text(fields[Field.ETH_SRC]),
                "eth_dst": mac_text(fields[Field.ETH_DST]),
                "vlan": tag & 0xFFF if tag & _TAG else None,
            }
            self.sent.append((port, self._frame.with_(**changes)))

    def _learn(self, learn: Learn, fields: Fields) -> None:
        match = matching(
            [
                Condition(Field.ETH_DST, fields[Field.ETH_SRC]),
                Condition(Field.REG13, fields[Field.REG13]),
            ]
        )
        flow = Flow(FlowKey(learn.table, learn.priority, match), (Load(Field.REG0, fields[Field.REG14]),))
        learnt = self._switch.learnt
        if flow.key in learnt or len(learnt) < learn.limit:
            learnt[flow.key] = flow
            self._switch.table(learn.table).add(flow)


def _alter(action: Action, fields: Fields) -> None:
    """What an action does that changes the packet or its metadata and nothing else."""
    match action:
        case Load(field, value, first, bits):
            write_bits(fields, field, value, first, bits or field.bits)
        case Move(source, destination, bits, source_first, destination_first):
            write_bits(fields, destination, fields[source] >> source_first, destination_first, bits)
        case CtClear():
            forget_tracking(fields)
        case PopVlan():
            write(fields, Field.VLAN_VID, 0)
        case PushVlan():
            if fields[Field.VLAN_VID]:
                raise PipelineError("a second tag on a frame: the fake knows no such frames")
            write(fields, Field.VLAN_VID, _TAG)
        case _:
            raise PipelineError(f"what does {action} do?")


def _check(flow: Flow) -> None:
    """Whether the switch would take ``flow``.

    Raises:
        RefusedFlow: it would not.
    """
    why = refusal(flow.key.match)
    if not 0 <= flow.key.priority <= 0xFFFF or not 0 <= flow.key.table < 255:
        why = "no such priority or table"
    if is_conjunctive(flow) and not all(isinstance(action, Conjunction) for action in flow.actions):
        why = "a conjunction with other actions"
    match = masked(flow.key.match)
    why = why or _refused_actions(flow.actions, match, is_tagged(match))
    if why is not None:
        raise RefusedFlow(f"{why}: {flow}")


def _refused_actions(actions: tuple[Action, ...], matched: Masked, tagged: bool) -> str | None:
    for action in actions:
        match action:
            case Track() | Commit() if not is_ip(matched):
                return "ct() without ETH_TYPE of IP"
            case PopVlan() if not tagged:
                return "a tag is taken off where there may be none"
            case Load(Field.VLAN_VID) | Move(_, Field.VLAN_VID) if not tagged:
                return "VLAN_VID is written where there may be no tag"
            case Load(field, value, first, bits) if value >> (bits or field.bits) or first + bits > field.bits:
                return "a value wider than its field"
            case Load(field) | Move(_, field) if field in _READ_ONLY:
                return f"{field.name} cannot be written"
            case Move(source, field, bits, source_first, first) if (
                source_first + bits > source.bits or first + bits > field.bits
            ):
                return "more bits than the field has"
            case Move(field) | OutputField(field) if lacks(field, matched):
                return f"{field.name} without {lacks(field, matched)}"
            case Load(field) | Move(_, field) if lacks(field, matched):
                return f"{field.name} without {lacks(field, matched)}"
            case Clone(others):
                why = _refused_actions(others, matched, tagged)
                if why is not None:
                    return why
            case PushVlan():
                tagged = True
            case PopVlan():
                tagged = False
    return None
