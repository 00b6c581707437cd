"""The flows of policies, and of the lists and profiles that use them. Pure.

A policy's rules are flows of one table, told apart by a number; their order is that of priorities. They match the
addresses and ports of the connection's first packet (ovs-fields(7), ct_nw_src and those after it), so one flow serves
a connection's packets both ways. A policy with more rules than there are priorities for, or more address sets than a
page holds, is asked in stretches, each with a number of its own. Refuses to know ports.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from portward.compiler import compile_rules
from portward.dataplane.lists import Part
from portward.dataplane.openvswitch.flows import (
    Action,
    Commit,
    Condition,
    Conjunction,
    CtState,
    Field,
    Flow,
    Load,
    Resubmit,
)
from portward.dataplane.openvswitch.layout import MARK_BITS, POSITION_BITS, POSITION_FIRST, STRATUM_SIZE, Table, flag
from portward.dataplane.openvswitch.sets import NO_SETS, PAGE_SIZE, Lookups, ask, conditions
from portward.dataplane.openvswitch.tables import TRACKED_VALID, Asked, flow, to_position
from portward.dataplane.protocol import DataplaneError
from portward.model import DCCP, SCTP, IPVersion, PortRange, Prefix, Rule, Stratum
from portward.model import Action as RuleAction

_ETH_TYPE: dict[IPVersion, int] = {4: 0x0800, 6: 0x86DD}
_FIRST_PRIORITY, _LAST_PRIORITY = 1, 65000
#: Priorities between neighbours at first: room to put rules between them without moving any.
_GAP = 32
#: The most rules of a stretch: with those before and after it, each has some room.
LONGEST_STRETCH = 10_000
_STRATA = list(Stratum)
#: Bits of a mark, by whether the list that accepted the connection is the ingress list.
_ACCEPTED_BY = {False: 1, True: 2}
#: One condition for each value that a field may have: all of them together are what a rule asks of the field.
_Alternatives = list[Condition | None]


class RuleFlows(NamedTuple):
    """The flows that are one rule, and where it stands."""

    rule: Rule
    priority: int
    sets: tuple[Condition, ...]  # that the address sets which it names hold the packet's addresses
    flows: tuple[Flow, ...]


class PolicyFlows(NamedTuple):
    """The flows of a stretch of a policy: what decides, in the order of rules."""

    number: int
    source: Sequence[Rule]  # enabled rules
    lookups: Lookups
    rules: dict[str, RuleFlows]  # those that can be first, by id


def stretches(rules: tuple[Rule, ...]) -> Iterator[tuple[Rule, ...]]:
    """The ``rules`` of a policy in consecutive stretches that can each be asked at once; most policies have one."""
    first, sources, destinations = 0, set[str | None](), set[str | None]()
    for place, rule in enumerate(rules):
        sources.add(rule.source_set)
        destinations.add(rule.destination_set)
        if place - first == LONGEST_STRETCH or max(len(sources), len(destinations)) > PAGE_SIZE:
            yield rules[first:place]
            first, sources, destinations = place, {rule.source_set}, {rule.destination_set}
    yield rules[first:]


def policy_flows(
    number: int, rules: Sequence[Rule], lookups: Lookups = NO_SETS, before: PolicyFlows | None = None
) -> PolicyFlows:
    """The flows of a stretch of enabled ``rules``; those that can never be first have none.

    ``lookups`` say where it finds the address sets that they name.
    ``before`` is what it was: rules that stay keep their priorities and so their flows, as far as there is room.
    """
    hidden = compile_rules(rules, lookups=False).unreachable
    kept = [rule for place, rule in enumerate(rules) if place not in hidden]
    known = before.rules if before is not None and before.number == number else {}
    priorities = _priorities([rule.id for rule in kept], {id_: made.priority for id_, made in known.items()})
    made = {}
    for rule, priority in zip(kept, priorities, strict=True):
        old = known.get(rule.id)
        named = tuple(conditions(rule, lookups))
        if old is None or old.priority != priority or old.rule != rule or old.sets != named:
            old = RuleFlows(rule, priority, named, tuple(_rule_flows(number, priority, rule, named)))
        made[rule.id] = old
    return PolicyFlows(number, rules, lookups, made)


def unmatched(rules: Sequence[Rule], *, userspace: bool) -> str | None:
    """What is wrong with the first rule that the switch cannot decide by, if there is one.

    No switch knows ports of DCCP; in ``userspace`` it tracks SCTP by its addresses alone, so that a new association
    could pass as the answers of another.
    """
    for rule in rules:
        if _names_dccp_ports(rule):
            return f"rule {rule.id} names ports of DCCP, which a switch cannot tell: it denies all DCCP it meets"
        if userspace and rule.protocol == SCTP:
            return f"rule {rule.id} is about SCTP, whose ports this switch's datapath does not track: SCTP is denied"
    return None


def _names_dccp_ports(rule: Rule) -> bool:
    return rule.protocol == DCCP and bool(rule.source_port or rule.destination_port)


def profile_flows(
    profile: int,
    epoch: int,
    egress: Sequence[Part],
    ingress: Sequence[Part],
    numbers: Mapping[str, Sequence[int]],
    lookups: Mapping[int, Lookups],
) -> Iterator[Flow]:
    """How the ports of ``profile`` go through their two lists, and which connections are accepted.

    ``epoch`` marks what these lists, as they are now, accepted. ``numbers`` are those of the stretches of policies,
    ``lookups`` say where these find their address sets.

    Raises:
        DataplaneError: a list has more steps than there are positions.
    """
    mine = (Field.REG10, profile)
    yield from _accepted_flows(mine, epoch << MARK_BITS)
    if not egress and not ingress:
        # Nobody covers its ports: what connection tracking has no connection for passes, too.
        for unknown in (CtState.INV, CtState.REL):
            seen = Condition(Field.CT_STATE, CtState.TRK | unknown, CtState.TRK | unknown)
            yield flow(Table.STATE, 95, [mine, seen], Resubmit(Table.ADMIT))
    for to_vm, parts in ((False, egress), (True, ingress)):
        for position, actions in _walk(parts, numbers, lookups).items():
            if actions:
                at = Condition(Field.REG15, position << POSITION_FIRST, ((1 << POSITION_BITS) - 1) << POSITION_FIRST)
                side = flag(to_vm=to_vm)
                here = Condition(Field.REG15, at.value | side.value, (at.mask or 0) | (side.mask or 0))
                yield flow(Table.NEXT, 100, [mine, here], *actions)


def _accepted_flows(mine: tuple[Field, int], mark: int) -> Iterator[Flow]:
    """What passes because its list accepted the connection, and how that is marked.

    One list's word is not the other's: a machine that forwards sends packets with the tuple that they came with.
    """
    every = sum(_ACCEPTED_BY.values())
    all_bits = (1 << Field.CT_MARK.bits) - 1
    related = Condition(Field.CT_STATE, CtState.TRK | CtState.REL, CtState.TRK | CtState.INV | CtState.REL)
    fresh = Condition(Field.CT_MARK, mark, all_bits & ~every)
    yield flow(Table.STATE, 100, [mine, related, fresh], Resubmit(Table.ADMIT))
    for to_vm, bit in _ACCEPTED_BY.items():
        other = every & ~bit
        accepted = Condition(Field.CT_MARK, mark | bit, all_bits & ~other)
        for reply in (False, True):
            valid = CtState.TRK | CtState.INV | CtState.RPL
            state = Condition(Field.CT_STATE, CtState.TRK | CtState.RPL * reply, valid)
            side = flag(past_egress=to_vm != reply)
            yield flow(Table.STATE, 100, [mine, state, accepted, side], Resubmit(Table.ADMIT))
        for eth_type in _ETH_TYPE.values():
            here: list[Asked] = [mine, (Field.ETH_TYPE, eth_type), flag(to_vm=to_vm)]
            onward = Resubmit(Table.COMMITTED)
            yield flow(Table.ALLOW, 100, here, Commit(Field.REG11, mark | bit), onward)
            before = Condition(Field.CT_MARK, mark | other)
            yield flow(Table.ALLOW, 110, [*here, before], Commit(Field.REG11, mark | every), onward)


def _walk(
    parts: Sequence[Part], numbers: Mapping[str, Sequence[int]], lookups: Mapping[int, Lookups]
) -> dict[int, tuple[Action, ...]]:
    """What is done at each position of a list: the next stretch, or the end. No actions: what comes there is denied."""
    end: tuple[Action, ...] = ()
    if not any(part.stratum is Stratum.TENANT for part in parts):
        end = (Resubmit(Table.ALLOW),)
    steps: dict[int, tuple[Action, ...]] = {}
    onward = end
    for place, stratum in reversed(list(enumerate(_STRATA))):
        members = [part for part in parts if part.stratum is stratum]
        asked = [one for part in members for one in ((None,) if part.closed else numbers.get(str(part.policy_id), ()))]
        if len(asked) >= STRATUM_SIZE:
            raise DataplaneError(
                f"more than {STRATUM_SIZE - 1} policies of one stratum decide for a port: assign fewer"
            )
        for index in range(len(asked), -1, -1):
            position = place * STRATUM_SIZE + index
            if index < len(asked):
                number = asked[index]
                onward = () if number is None else _ask(number, lookups[number], position + 1)
            steps[position] = onward
    return steps


def _ask(number: int, lookups: Lookups, otherwise: int) -> tuple[Action, ...]:
    """Ask a stretch; what it does not decide goes on at the position ``otherwise``."""
    here = Load(Field.REG15, otherwise, POSITION_FIRST, POSITION_BITS)
    return Load(Field.REG8, number), here, *ask(lookups), Resubmit(Table.POLICY)


def _priorities(ids: Sequence[str], known: Mapping[str, int]) -> list[int]:
    """Descending priorities for ``ids``. As many as possible of those ``known`` stay as they are."""
    stay = _descending([(place, known[id_]) for place, id_ in enumerate(ids) if id_ in known])
    found: list[int] = []
    bounds = [(-1, _LAST_PRIORITY), *stay, (len(ids), _FIRST_PRIORITY - 1)]
    for (place, above), (next_place, below) in pairwise(bounds):
        count = next_place - place - 1
        if count:
            room = above - below - 1
            if room < count:
                return _spread(len(ids))
            at_end = next_place == len(ids)
            gap = min(_GAP, (above - below) // (count + 1)) if at_end else (above - below) // (count + 1)
            gap = max(1, gap)
            found += [above - gap * (number + 1) for number in range(count)]
        if next_place < len(ids):
            found.append(below)
    return found


def _spread(count: int) -> list[int]:
    gap = max(1, min(_GAP, (_LAST_PRIORITY - _FIRST_PRIORITY) // max(1, count)))
    return [_LAST_PRIORITY - gap * (number + 1) for number in range(count)]


def _descending(placed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """A longest part of ``placed`` (place, priority) whose priorities descend."""
    tails: list[int] = []
    at: list[int] = []
    parents: list[int] = []
    for index, (_, priority) in enumerate(placed):
        position = bisect_left(tails, -priority)
        if position == len(tails):
            tails.append(-priority)
            at.append(index)
        else:
            tails[position] = -priority
            at[position] = index
        parents.append(at[position - 1] if position else -1)
    chain = []
    index = at[-1] if at else -1
    while index >= 0:
        chain.append(placed[index])
        index = parents[index]
    return chain[::-1]


def _rule_flows(number: int, priority: int, rule: Rule, sets: Sequence[Condition]) -> Iterator[Flow]:
    base: list[Condition] = [
        Condition(Field.REG8, number),
        Condition(Field.ETH_TYPE, _ETH_TYPE[rule.ip_version]),
        *_address(rule.ip_version, rule.source, source=True),
        *_address(rule.ip_version, rule.destination, source=False),
        *sets,
    ]
    if rule.protocol is not None:
        base.append(Condition(Field.CT_NW_PROTO, rule.protocol))
    if _names_dccp_ports(rule):
        yield flow(Table.POLICY, priority, [*base, TRACKED_VALID])
        return
    # Of ICMP, connection tracking keeps type and code where other protocols have their ports.
    if rule.icmp_type is not None:
        base.append(Condition(Field.CT_TP_SRC, rule.icmp_type))
    if rule.icmp_code is not None:
        base.append(Condition(Field.CT_TP_DST, rule.icmp_code))
    yield from _with_ports(number, priority, [*base, TRACKED_VALID], rule)


def _with_ports(number: int, priority: int, base: list[Condition], rule: Rule) -> Iterator[Flow]:
    actions = _ACTIONS[rule.action]
    sources = _ports(Field.CT_TP_SRC, rule.source_port)
    destinations = _ports(Field.CT_TP_DST, rule.destination_port)
    if len(sources) * len(destinations) <= len(sources) + len(destinations) + 1:
        for source in sources:
            for destination in destinations:
                yield flow(Table.POLICY, priority, [*base, *filter(None, (source, destination))], *actions)
        return
    id_ = conjunction_id(number, priority)
    for clause, alternatives in enumerate((sources, destinations)):
        for condition in filter(None, alternatives):
            yield flow(Table.POLICY, priority, [*base, condition], Conjunction(id_, clause, 2))
    yield flow(Table.POLICY, priority, [*base, Condition(Field.CONJ_ID, id_)], *actions)


def conjunction_id(number: int, priority: int) -> int:
    """Of the rule at ``priority`` of a policy, which no other rule of it has.

    Those of other policies may have the same id: their flows are not in play when this policy is asked.
    """
    return (number & 0xFFFF) << 16 | priority


def _address(version: IPVersion, prefix: Prefix | None, *, source: bool) -> list[Condition]:
    if prefix is None or not prefix.prefixlen:
        return []
    if version == 4:
        field = Field.CT_NW_SRC if source else Field.CT_NW_DST
    else:
        field = Field.CT_IPV6_SRC if source else Field.CT_IPV6_DST
    mask = None if prefix.prefixlen == prefix.max_prefixlen else int(prefix.netmask)
    return [Condition(field, int(prefix.network_address), mask)]


def _ports(field: Field, ports: PortRange | None) -> _Alternatives:
    """The fewest masked matches that are ``ports`` together."""
    if ports is None:
        return [None]
    found: _Alternatives = []
    first, last = ports.first, ports.last
    while first <= last:
        size = first & -first if first else 1 << 16
        while size > last - first + 1:
            size >>= 1
        found.append(Condition(field, first, None if size == 1 else 0xFFFF & ~(size - 1)) if size < 1 << 16 else None)
        first += size
    return found


_ACTIONS: dict[RuleAction, tuple[Action, ...]] = {
    RuleAction.ALLOW: (Resubmit(Table.ALLOW),),
    RuleAction.DENY: (),
    RuleAction.REJECT: (Resubmit(Table.REJECT),),
    RuleAction.PASS: to_position(STRATUM_SIZE),
}
