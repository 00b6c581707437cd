"""Rules, policies, states and packets for property tests, made to meet each other.

Addresses and ports come from small pools of nested prefixes and adjoining ranges, and packets are built to sit
just inside or just outside the fields of given rules, so that matches, near misses and overlaps are common.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar
from uuid import UUID

from hypothesis import strategies as st

from portward.model import (
    DCCP,
    ICMP,
    ICMPV6,
    PROTOCOLS_WITH_PORTS,
    SCTP,
    TCP,
    UDP,
    Action,
    Address,
    AddressSet,
    CoveredPort,
    Group,
    HostState,
    IPVersion,
    Packet,
    Policy,
    Port,
    PortKind,
    PortRange,
    Prefix,
    Rule,
    Stratum,
)

_T = TypeVar("_T")

#: Nested and adjoining prefixes, so that rules overlap, contain and only just miss each other.
PREFIXES: dict[IPVersion, tuple[Prefix, ...]] = {
    4: tuple(
        IPv4Network(text)
        for text in (
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.1.0/24",
            "10.1.1.128/25",
            "10.1.1.5/32",
            "10.1.2.0/24",
            "192.0.2.1/32",
        )
    ),
    6: tuple(
        IPv6Network(text)
        for text in (
            "::/0",
            "fd00::/16",
            "fd00:1::/32",
            "fd00:1:1::/64",
            "fd00:1:1:0:8000::/65",
            "fd00:1:1::5/128",
            "fd00:1:2::/64",
            "2001:db8::1/128",
        )
    ),
}
_PORTS = (0, 1, 22, 23, 53, 1023, 1024, 1025, 65534, 65535)
_FURTHER_PROTOCOLS = (0, 2, 47, 255)


def ident(number: int) -> str:
    """A UUID that tells which one it is."""
    return str(UUID(int=number))


#: Address sets that rules may name: of prefixes that overlap within and between sets, of one version, of none.
SETS = {
    set_.id: set_
    for set_ in (
        AddressSet(id=ident(0x5E701), version=1, members=(*PREFIXES[4][2:5], *PREFIXES[6][3:5])),
        AddressSet(id=ident(0x5E702), version=1, members=(PREFIXES[4][1], PREFIXES[4][5], PREFIXES[6][5])),
        AddressSet(id=ident(0x5E703), version=1, members=PREFIXES[6][6:]),
        AddressSet(id=ident(0x5E704), version=1),
    )
}
#: Types of ICMP that begin a connection.
QUERIES = {ICMP: (8, 8, 13, 17), ICMPV6: (128,)}
_ICMP_TYPES = (0, 3, 8, 13, 128, 129, 255)


def address_in(prefix: Prefix) -> st.SearchStrategy[Address]:
    """The first, the second and the last address of ``prefix``."""
    return st.sampled_from(sorted({prefix[0], prefix[min(1, prefix.num_addresses - 1)], prefix[-1]}))


def address_near(prefix: Prefix) -> st.SearchStrategy[Address]:
    """As ``address_in``; now and then the last address before ``prefix``, or the first behind it."""
    top = 2**prefix.max_prefixlen - 1
    kind = type(prefix[0])
    outside = [kind(number) for number in (int(prefix[0]) - 1, int(prefix[-1]) + 1) if 0 <= number <= top]
    return _mostly(address_in(prefix), st.sampled_from(outside)) if outside else address_in(prefix)


def port_near(ports: PortRange) -> st.SearchStrategy[int]:
    """The bounds of ``ports``; now and then the port before or behind them."""
    outside = [port for port in (ports.first - 1, ports.last + 1) if 0 <= port <= 65535]
    inside = st.sampled_from(sorted({ports.first, ports.last}))
    return _mostly(inside, st.sampled_from(outside)) if outside else inside


def _mostly(usual: st.SearchStrategy[_T], other: st.SearchStrategy[_T]) -> st.SearchStrategy[_T]:
    return st.integers(0, 5).flatmap(lambda number: other if number == 5 else usual)


@st.composite
def port_ranges(draw: st.DrawFn) -> PortRange:
    """Single ports and ranges whose bounds adjoin."""
    first = draw(st.sampled_from(_PORTS))
    return PortRange(first, draw(st.sampled_from([port for port in _PORTS if port >= first])))


@st.composite
def rules(
    draw: st.DrawFn,
    *,
    number: int = 0,
    actions: Sequence[Action] = (Action.ALLOW, Action.DENY, Action.REJECT),
    enabled: st.SearchStrategy[bool] = st.sampled_from([True, True, True, False]),  # noqa: B008
) -> Rule:
    """One valid rule with id ``ident(number)``."""
    version: IPVersion = draw(st.sampled_from((4, 6)))
    protocol = draw(st.none() | st.sampled_from((TCP, TCP, UDP, ICMP, SCTP, DCCP, *_FURTHER_PROTOCOLS)))
    addresses = st.one_of(st.none(), st.none(), st.sampled_from(PREFIXES[version]), st.sampled_from(sorted(SETS)))
    ports = st.none() | port_ranges() if protocol in PROTOCOLS_WITH_PORTS else st.none()
    sides = [draw(addresses) for _ in range(2)]
    source, destination = (None if isinstance(side, str) else side for side in sides)
    source_set, destination_set = (side if isinstance(side, str) else None for side in sides)
    icmp_type = draw(st.none() | st.sampled_from(_ICMP_TYPES)) if protocol == ICMP else None
    return Rule(
        id=ident(number),
        action=draw(st.sampled_from(list(actions))),
        enabled=draw(enabled),
        ip_version=version,
        protocol=protocol,
        source=source,
        destination=destination,
        source_set=source_set,
        destination_set=destination_set,
        source_port=draw(ports),
        destination_port=draw(ports),
        icmp_type=icmp_type,
        icmp_code=None if icmp_type is None else draw(st.none() | st.sampled_from((0, 1, 255))),
    )


@st.composite
def policies(
    draw: st.DrawFn,
    *,
    number: int = 1,
    min_rules: int = 0,
    max_rules: int = 6,
    actions: Sequence[Action] = (Action.ALLOW, Action.DENY, Action.REJECT),
) -> Policy:
    """Policy ``ident(number)``, whose rules have ids of their own."""
    count = draw(st.integers(min_rules, max_rules))
    return Policy(
        id=ident(number),
        version=1,
        rules=tuple(draw(rules(number=number * 1000 + index, actions=actions)) for index in range(count)),
    )


@st.composite
def packets(draw: st.DrawFn, near: Sequence[Rule] = ()) -> Packet:
    """A packet built on the borders of one of ``near``, or of nothing in particular: the first of a connection."""
    rule = draw(st.sampled_from(list(near)) if near else rules())
    version = rule.ip_version
    protocol = draw(st.just(rule.protocol) if rule.protocol is not None else st.sampled_from((TCP, UDP, ICMP, 47)))
    if draw(st.integers(0, 9)) == 0:
        protocol = draw(st.sampled_from((TCP, UDP)))
    if protocol in (ICMP, ICMPV6):
        protocol = ICMP if version == 4 else ICMPV6
    source, destination = (
        draw(address_near(prefix or draw(st.sampled_from(_members(set_id, version) or PREFIXES[version]))))
        for prefix, set_id in ((rule.source, rule.source_set), (rule.destination, rule.destination_set))
    )
    if protocol in PROTOCOLS_WITH_PORTS:
        return Packet(
            source=source,
            destination=destination,
            protocol=protocol,
            source_port=draw(port_near(rule.source_port or draw(port_ranges()))),
            destination_port=draw(port_near(rule.destination_port or draw(port_ranges()))),
        )
    if protocol in (ICMP, ICMPV6):
        queries = QUERIES[protocol]
        return Packet(
            source=source,
            destination=destination,
            protocol=protocol,
            icmp_type=rule.icmp_type if rule.icmp_type in queries else draw(st.sampled_from(queries)),
            icmp_code=draw(st.sampled_from((0, 0, rule.icmp_code or 0, 1))),
            icmp_id=draw(st.integers(0, 3)),
        )
    return Packet(source=source, destination=destination, protocol=protocol)


def _members(set_id: str | None, version: IPVersion) -> list[Prefix]:
    return [prefix for prefix in SETS[set_id].members if prefix.version == version] if set_id else []


def router_port(number: int) -> Port:
    """Router port ``ident(number)``, bound nowhere."""
    return Port(id=ident(number), kind=PortKind.ROUTER)


@st.composite
def covered_ports(
    draw: st.DrawFn, given: Sequence[Policy], *, number: int, strata: Sequence[Stratum] = tuple(Stratum)
) -> CoveredPort:
    """Router port ``ident(number)`` with at most one tenant group and up to two of each other stratum.

    Policies with ``pass`` go to admin groups alone.
    """
    tenant = [policy.id for policy in given if all(rule.action is not Action.PASS for rule in policy.rules)]
    groups: list[Group] = []
    for stratum in strata:
        usable = [policy.id for policy in given] if stratum is Stratum.ADMIN else tenant
        chosen = st.sampled_from([*usable, *usable, *usable, None])
        count = st.sampled_from((1, 1, 1, 0)) if stratum is Stratum.TENANT else st.integers(0, 2)
        for position in range(draw(count)):
            groups.append(
                Group(
                    id=ident(number * 100 + len(groups)),
                    stratum=stratum,
                    position=position,
                    admin_state_up=draw(st.sampled_from((True, True, True, False))),
                    ingress_policy_id=draw(chosen),
                    egress_policy_id=draw(chosen),
                )
            )
    return CoveredPort(port=router_port(number), groups=tuple(groups))


@st.composite
def host_states(
    draw: st.DrawFn,
    *,
    ports: Sequence[int] = (1, 2),
    strata: Sequence[Stratum] = tuple(Stratum),
    max_policies: int = 3,
) -> HostState:
    """A state of router ports ``ident(n)`` for n in ``ports``, some of them covered by nothing."""
    admin = Stratum.ADMIN in strata
    every = (Action.ALLOW, Action.ALLOW, Action.DENY, Action.REJECT)
    given = [draw(policies(number=11 + index, actions=every)) for index in range(draw(st.integers(1, max_policies)))]
    if admin:
        given.append(draw(policies(number=10, actions=(*every, Action.PASS))))
    return HostState(
        generation=1,
        ports=tuple(draw(covered_ports(given, number=number, strata=strata)) for number in ports),
        policies=tuple(given),
        sets=tuple(SETS.values()),
    )


def rules_of(state: HostState) -> list[Rule]:
    """Every rule of ``state``, to build packets near to."""
    return [rule for policy in state.policies for rule in policy.rules]


@st.composite
def policy_and_packet(draw: st.DrawFn, *, min_rules: int = 1) -> tuple[Policy, Packet]:
    """A policy with rules and a packet on the borders of one of them."""
    policy = draw(policies(min_rules=min_rules))
    return policy, draw(packets(near=policy.rules))


@st.composite
def states_and_packet(
    draw: st.DrawFn, *, ports: Sequence[int] = (1, 2), strata: Sequence[Stratum] = tuple(Stratum)
) -> tuple[HostState, Packet]:
    """A state and a packet on the borders of one of its rules."""
    state = draw(host_states(ports=ports, strata=strata))
    return state, draw(packets(near=rules_of(state)))
