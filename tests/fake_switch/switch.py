"""A bridge that has flows and nothing else: frames go in by a port, and come out by others.

The bridge has no ports of its own: whatever number a flow outputs to is a port. Refuses flows that Open vSwitch
refuses (``RefusedFlow``), and raises ``PipelineError`` where a pipeline is ambiguous or exceeds a limit of the switch.
"""

from collections.abc import Iterable

from fake_switch.connections import Zone
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
from fake_switch.frame import Fragment, Frame, mac_text
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


#: The fields in which the fragments of one packet differ.
_OF_FRAGMENTS = {Field.IP_FRAG, Field.UDP_SRC, Field.UDP_DST}
_OF_FRAGMENTS |= {Field.ICMPV6_TYPE, Field.ICMPV6_CODE, Field.ND_TARGET}


class RefusedFlow(AssertionError):
    """The switch would not take this flow."""


class FakeSwitch:
    """The bridge with ``flows``; what frames teach it, and the connections that they make, stay."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self.zones: dict[int, Zone] = {}
        self.learnt: dict[FlowKey, Flow] = {}
        self._held: dict[object, Frame] = {}
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

    def learn(self, flows: Iterable[Flow]) -> None:
        """Have ``flows`` beside those that were given."""
        for flow in flows:
            self.learnt[flow.key] = flow
            self.table(flow.key.table).add(flow)

    def together(self, action: Track | Commit, fields: Fields, frame: Frame) -> list[Frame]:
        """``frame``; of a packet in two fragments both, once the second is here: they wait for each other."""
        if frame.fragment is Fragment.NO:
            return [frame]
        other = Fragment.FIRST if frame.fragment is Fragment.LATER else Fragment.LATER
        place = (
            action._replace(mark=0) if isinstance(action, Commit) else action,
            fields[action.zone],
            fields[Field.IN_PORT],
            frame.source,
            frame.destination,
            frame.identification,
        )
        if (place, other) not in self._held:
            self._held[place, frame.fragment] = frame
            return []
        return [self._held.pop((place, other)), frame]

    def flush(self, zone: int) -> None:
        """Forget the connections of ``zone``."""
        self.zones.pop(zone, None)

    def send(self, in_port: int, frame: Frame) -> list[tuple[int, Frame]]:
        """What goes out, in order, and by which ports, when ``frame`` comes in by ``in_port``.

        Raises:
            PipelineError: two flows decide for it, or it is resubmitted too often.
        """
        return _Translation(self, frame).run(0, fields_of(frame, in_port))

    def table(self, number: int) -> Table:
        """Table ``number``, empty if no flow stands in it."""
        if number not in self._tables:
            self._tables[number] = Table([])
        return self._tables[number]

    def zone(self, number: int) -> Zone:
        """The connections of zone ``number``."""
        return self.zones.setdefault(number, Zone())


class _Translation:
    """What the tables say about one frame, until it leaves or is tracked.

    As in the switch, first all is looked up, then done in order: what is learnt, and what connection tracking learns,
    is seen by later translations alone.
    """

    def __init__(self, switch: FakeSwitch, frame: Frame) -> None:
        self._switch = switch
        self._frame = frame
        self._resubmits = 0
        self._done: list[tuple[Output | Track | Commit, Fields]] = []
        self._learnt: list[Flow] = []

    def run(self, table: int, fields: Fields) -> list[tuple[int, Frame]]:
        """What goes out, if the frame is looked up in ``table`` first."""
        self._look_up(table, fields, 0)
        self._switch.learn(self._learnt)
        frames = [self._frame]
        sent: list[tuple[int, Frame]] = []
        for action, there in self._done:
            match action:
                case Output(port):
                    sent += [(port, _as_sent(frame, there)) for frame in frames]
                case Track(other, zone):
                    for frame in [it for each in frames for it in self._switch.together(action, there, each)]:
                        tracked = fields_of(frame, 0) | _metadata(there)
                        self._switch.zone(there[zone] & 0xFFFF).track(tracked, frame)
                        sent += _Translation(self._switch, frame).run(other, tracked)
                case Commit(zone, mark):
                    frames = self._switch.together(action, there, self._frame)
                    for frame in frames:
                        self._switch.zone(there[zone] & 0xFFFF).commit(frame, mark)
        return sent

    def _look_up(self, table: int, fields: Fields, depth: int) -> None:
        flow = self._switch.table(table).find(fields)
        if flow is not None:
            self._do(flow.actions, table, fields, depth)

    def _do(self, actions: tuple[Action, ...], table: int, fields: Fields, depth: int) -> None:
        for action in actions:
            match action:
                case Output(port):
                    self._output(port, fields)
                case OutputField(field):
                    self._output(fields[field], fields)
                case Resubmit(other):
                    self._resubmits += 1
                    deeper = depth + (other <= table)
                    if self._resubmits > _MOST or deeper > _DEEPEST:
                        raise PipelineError(f"resubmitted too often: {self._resubmits} times, {deeper} deep")
                    self._look_up(other, fields, deeper)
                case Track() | Commit():
                    self._done.append((action, dict(fields)))
                    forget_tracking(fields)
                case Clone(others):
                    self._do(others, table, dict(fields), depth)
                case Learn():
                    self._learn(action, fields)
                case _:
                    _alter(action, fields)

    def _output(self, port: int, fields: Fields) -> None:
        if port not in (_NOWHERE, fields[Field.IN_PORT]):
            self._done.append((Output(port), dict(fields)))

    def _learn(self, learn: Learn, fields: Fields) -> None:
        source, network = fields[Field.ETH_SRC], fields[Field.REG13]
        match = matching([Condition(Field.ETH_DST, source), Condition(Field.REG13, network)])
        flow = Flow(FlowKey(learn.table, learn.priority, match), (Load(Field.REG0, fields[Field.REG14]),))
        if flow.key in self._switch.learnt or len(self._switch.learnt) < learn.limit:
            self._learnt.append(flow)


def _metadata(fields: Fields) -> Fields:
    """What ``fields`` hold that is not of the packet, and what of the packet the tables may have written."""
    return {field: value for field, value in fields.items() if field not in _OF_FRAGMENTS}


def _as_sent(frame: Frame, fields: Fields) -> Frame:
    """``frame`` with what the tables wrote into it."""
    tag = fields[Field.VLAN_VID]
    return frame.with_(
        eth_src=mac_text(fields[Field.ETH_SRC]),
        eth_dst=mac_text(fields[Field.ETH_DST]),
        vlan=tag & 0xFFF if tag & _TAG else None,
    )


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
