"""The flows that every bridge has, whatever its ports and policies: base traffic, sources, state, delivery. Pure.

Refuses to know a port, a policy or an address. docs/design/openvswitch.md tells the way of a packet through them.
"""

from collections.abc import Iterable, Iterator

from portward.dataplane.openvswitch.flows import (
    Action,
    Commit,
    Condition,
    CtClear,
    CtState,
    Field,
    Flow,
    FlowKey,
    Learn,
    Load,
    Move,
    Output,
    OutputField,
    PopVlan,
    Resubmit,
    Track,
    matching,
)
from portward.dataplane.openvswitch.layout import (
    HOOK_ABOVE,
    HOOK_BELOW,
    LEARNT_COOKIE,
    POSITION_BITS,
    POSITION_FIRST,
    Bits,
    Table,
    flag,
)
from portward.model import ICMPV6, SCTP, UDP

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
_IP = ((Field.ETH_TYPE, IPV4), (Field.ETH_TYPE, IPV6))
#: The tables of Neutron's firewall driver where we come in: local delivery, and all that ends in NORMAL.
_THEIR_INGRESS = 81
_THEIR_NORMAL = (60, 62, 94)
#: Tables of others that may hold hooks of ours.
HOOKED = frozenset({Table.CLASSIFY, _THEIR_INGRESS, *_THEIR_NORMAL})
_MULTICAST_BIT = 1 << 40
#: What connection tracking knows, and does not call invalid: only that has addresses and ports of a connection.
TRACKED_VALID = Condition(Field.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV)
_TAGGED = Condition(Field.VLAN_VID, 0x1000, 0x1000)
#: The source of answers to rejected frames: locally administered, and nobody's.
_ANSWER_MAC = 0x027077000000
#: Kinds of addresses in ``Table.OWN``, in reg3: the address of reg0, that of xxreg1, or the MAC alone.
OWN_MAC, OWN_IPV4, OWN_IPV6 = 0, 4, 6
#: The mark of connections that no epoch has accepted.
_NOT_ACCEPTED = 0
#: Seconds for which a source is known, and how many are.
_LEARNT_TIMEOUT, _LEARNT_LIMIT = 300, 16384


#: A condition, or a field and the value of all of it.
Asked = Condition | tuple[Field, int]


def flow(table: int, priority: int, conditions: Iterable[Asked], *actions: Action) -> Flow:
    """A flow of ours."""
    asked = (item if isinstance(item, Condition) else Condition(*item) for item in conditions)
    return Flow(FlowKey(table, priority, matching(asked)), actions)


def set_bit(bit: Bits, value: bool = True) -> Load:
    """Write one bit of reg15."""
    return Load(Field.REG15, int(value), bit, 1)


#: Priority in ``Table.ADMIT`` of what has left a machine; the rest goes to one.
TO_EGRESS = 100
#: The port in reg14 decides, in its ingress direction. What was known of another port is forgotten first.
ENTER_INGRESS: tuple[Action, ...] = (
    Load(Field.REG10, 0),
    Resubmit(Table.PORT),
    Resubmit(Table.INGRESS),
)


def fixed_flows(*, beside: bool, userspace: bool, reflector: int | None) -> Iterator[Flow]:
    """All flows that depend on nothing else.

    ``beside``: Neutron's security groups are on the bridge. ``userspace``: so is the datapath. ``reflector``: the port
    of what answers rejected packets.
    """
    yield from _classify(beside)
    yield from _egress(beside)
    yield from _sources()
    yield from _checked()
    yield from _state(userspace)
    yield from _committed(userspace)
    yield from _admit(beside)
    yield from _deliver()
    yield from _ingress()
    if reflector is not None:
        yield from _reject(reflector)


def _classify(beside: bool) -> Iterator[Flow]:
    begin = (Move(Field.NXM_IN_PORT, Field.REG14, 16), Resubmit(Table.PORT), Resubmit(Table.EGRESS))
    yield flow(Table.CLASSIFY, HOOK_ABOVE, [flag(past_egress=False)], *begin)
    if not beside:
        return
    their = flag(past_egress=True, past_ingress=False)
    yield flow(_THEIR_INGRESS, HOOK_ABOVE, [their], Move(Field.REG5, Field.REG14, 16), *ENTER_INGRESS)
    for table in _THEIR_NORMAL:
        yield flow(table, HOOK_BELOW, [their], Resubmit(Table.DELIVER))


def _egress(beside: bool) -> Iterator[Flow]:
    table = Table.EGRESS
    yield flow(table, 1000, [Condition(Field.REG10, 0), flag(admitted=False)])
    yield flow(table, 900, [flag(trunk=False), _TAGGED])
    onward = Resubmit(Table.CLASSIFY if beside else Table.DELIVER)
    yield flow(table, 800, [flag(admitted=True)], set_bit(Bits.PAST_EGRESS), onward)
    yield flow(
        table,
        700,
        [flag(secured=False)],
        set_bit(Bits.OWN),
        set_bit(Bits.OWN_BEFORE),
        Resubmit(Table.CHECKED),
    )
    for match in (_udp(IPV4, 67, 68), _udp(IPV6, 547, 546), _icmpv6(134), _icmpv6(137)):
        yield flow(table, 600, match)  # servers and routers are elsewhere


def _sources() -> Iterator[Flow]:
    """Has ``Table.OWN`` asked whether a frame's sources are the port's: two answers, both must be yes."""
    mac = (Move(Field.ETH_SRC, Field.REG1, 32, 16), Move(Field.ETH_SRC, Field.REG2, 16))
    arp_mac = (Move(Field.ARP_SHA, Field.REG1, 32, 16), Move(Field.ARP_SHA, Field.REG2, 16))
    ask = Resubmit(Table.OWN)
    again = (Move(Field.REG15, Field.REG15, 1, Bits.OWN, Bits.OWN_BEFORE), set_bit(Bits.OWN, False))
    once = (set_bit(Bits.OWN_BEFORE),)
    done = Resubmit(Table.CHECKED)
    mac_only = (*mac, Load(Field.REG3, OWN_MAC))
    v4 = (*mac, Load(Field.REG3, OWN_IPV4))
    v6 = (*mac, Load(Field.REG3, OWN_IPV6), Move(Field.IPV6_SRC, Field.XXREG1, 128))
    target = (Load(Field.REG3, OWN_IPV6), Move(Field.ND_TARGET, Field.XXREG1, 128))
    table, nowhere = Table.EGRESS, Condition(Field.IPV6_SRC, 0)
    arp = (*v4, Move(Field.ARP_SPA, Field.REG0, 32), ask, *again, *arp_mac, ask, done)
    yield flow(table, 500, [(Field.ETH_TYPE, ARP)], *arp)
    advertisement = [*_icmpv6(136), (Field.ICMPV6_CODE, 0)]
    yield flow(table, 490, [*advertisement, nowhere], *mac_only, ask, *again, *target, ask, done)
    yield flow(table, 480, advertisement, *v6, ask, *again, *target, ask, done)
    yield flow(table, 475, _icmpv6(136))  # of another code: no advertisement (RFC 4861, 7.1.2), and without a target
    # Base traffic is sent before the VM has an address, too: duplicate address detection, DHCP discovery.
    for match in ([*_udp(IPV4, 68, 67), (Field.IPV4_SRC, 0)], [*_udp(IPV6, 546, 547), nowhere]):
        yield flow(table, 470, match, *mac_only, *once, ask, done)
    for kind in (131, 132, 133, 135, 143):
        yield flow(table, 470, [*_icmpv6(kind), nowhere], *mac_only, *once, ask, done)
    yield flow(table, 400, [(Field.ETH_TYPE, IPV4)], *v4, Move(Field.IPV4_SRC, Field.REG0, 32), *once, ask, done)
    yield flow(table, 400, [(Field.ETH_TYPE, IPV6)], *v6, *once, ask, done)


def _checked() -> Iterator[Flow]:
    table, own = Table.CHECKED, flag(own=True, own_before=True)
    yield flow(table, 100, [own, (Field.ETH_TYPE, ARP)], Resubmit(Table.ADMIT))
    for match in (_udp(IPV4, 68, 67), _udp(IPV6, 546, 547), *map(_icmpv6, (131, 132, 133, 135, 136, 143))):
        yield flow(table, 100, [own, *match], Resubmit(Table.ADMIT))
    for kind in _IP:
        yield flow(table, 90, [own, kind], Track(Table.TRACKED, Field.REG11))


def _ingress() -> Iterator[Flow]:
    table = Table.INGRESS
    yield flow(table, 1000, [Condition(Field.REG10, 0)])
    yield flow(table, 100, [(Field.ETH_TYPE, ARP)], Resubmit(Table.ADMIT))
    for match in (_udp(IPV4, 67, 68), _udp(IPV6, 547, 546), *map(_icmpv6, (130, 131, 132, 134, 135, 136))):
        yield flow(table, 100, match, Resubmit(Table.ADMIT))
    for kind in _IP:
        yield flow(table, 90, [kind], Track(Table.TRACKED, Field.REG11))


def _state(userspace: bool) -> Iterator[Flow]:
    """What no epoch's flow (priority 100) has let through."""
    table, judge = Table.STATE, Resubmit(Table.SIDE)
    yield flow(Table.TRACKED, 100, [], Load(Field.REG10, 0), Resubmit(Table.PORT), Resubmit(table))
    # Fragments show no ports to the tables before; they were put together, and these are those of the whole packet.
    for eth_type, source, destination in ((IPV4, 67, 68), (IPV6, 547, 546)):
        for reply in (False, True):
            first = (destination, source) if reply else (source, destination)
            conditions: list[Asked] = [
                (Field.ETH_TYPE, eth_type),
                Condition(Field.IP_FRAG, 1, 1),
                flag(past_egress=False, secured=True),
                _ct(trk=True, inv=False, rpl=reply),
                (Field.CT_NW_PROTO, UDP),
                (Field.CT_TP_SRC, first[0]),
                (Field.CT_TP_DST, first[1]),
            ]
            yield flow(table, 120, conditions)
    # Nor the type of neighbour discovery, of which connection tracking knows nothing, if the first one is short.
    short: list[Asked] = [(Field.ETH_TYPE, IPV6), Condition(Field.IP_FRAG, 1, 1), _ct(trk=True, inv=True)]
    yield flow(table, 120, [*short, flag(past_egress=False, secured=True)])
    yield flow(table, 90, [_ct(trk=True, inv=True)])
    yield flow(table, 90, [_ct(trk=True, rel=True)])  # an error about what is not accepted now: never judged
    yield flow(table, 80, [_ct(trk=True, inv=False)], judge)
    # A reply is judged by the other list: as its connection was, in the original direction.
    for ingress in (False, True):
        for reply in (False, True):
            conditions = [flag(past_egress=ingress), _ct(trk=True, inv=False, rpl=reply)]
            yield flow(Table.SIDE, 100, conditions, set_bit(Bits.TO_VM, ingress != reply), *to_position(0))
    yield flow(Table.POLICY, 0, [], Resubmit(Table.NEXT))
    # Of protocol 0 the switch keeps no addresses of the connection: rules about addresses would not see it.
    for kind in _IP:
        yield flow(Table.POLICY, 65535, [kind, TRACKED_VALID, (Field.CT_NW_PROTO, 0)])
    if userspace:
        # Tracked by its addresses alone: a new association would pass as the answers of another.
        for kind in _IP:
            yield flow(Table.POLICY, 65535, [kind, (Field.IP_PROTO, SCTP)])


def _committed(userspace: bool) -> Iterator[Flow]:
    """On with a packet whose connection was marked.

    A datapath in userspace puts fragments together for a moment only, and lets them go with whatever packet is at
    connection tracking then: those of a datagram that is whole, all with the last of them; those that waited in vain,
    as invalid, with anybody's packet. So nothing is delivered in the same go as a commit: what is here is tracked once
    more.
    """
    if not userspace:
        yield flow(Table.COMMITTED, 100, [], Resubmit(Table.ADMIT))
        return
    for kind in _IP:
        again = Track(Table.COMMITTED, Field.REG11)
        yield flow(Table.COMMITTED, 100, [kind, _ct(trk=False, inv=False)], again)
        # Later fragments bear no ports, so none is judged. It is held until its first one is committed, if ever.
        later: list[Asked] = [kind, Condition(Field.IP_FRAG, 3, 3), _ct(trk=True, inv=False)]
        yield flow(Table.STATE, 85, later, Commit(Field.REG11, _NOT_ACCEPTED), Resubmit(Table.COMMITTED))
    yield flow(Table.COMMITTED, 100, [_ct(trk=True, inv=False)], Resubmit(Table.ADMIT))


def to_position(position: int) -> tuple[Action, ...]:
    """Go on in the list at ``position``."""
    return Load(Field.REG15, position, POSITION_FIRST, POSITION_BITS), Resubmit(Table.NEXT)


def _admit(beside: bool) -> Iterator[Flow]:
    # The tables of others find no register of ours but those that say where the packet is.
    unused = (Field.REG9, Field.REG12, Field.XXREG0, Field.XXREG1)
    table = Table.ADMIT
    clean: tuple[Action, ...] = (CtClear(), *(Load(field, 0) for field in unused))
    onward = Resubmit(Table.CLASSIFY if beside else Table.DELIVER)
    yield flow(table, TO_EGRESS, [flag(past_egress=False)], *clean, set_bit(Bits.PAST_EGRESS), onward)
    yield flow(table, 90, [flag(past_egress=True)], CtClear(), OutputField(Field.REG14))
    if beside:
        theirs = (Move(Field.REG14, Field.REG5, 32), Move(Field.REG13, Field.REG6, 32), Resubmit(_THEIR_INGRESS))
        match = [flag(past_egress=True, secured=True)]
        yield flow(table, 95, match, *clean, set_bit(Bits.PAST_INGRESS), *theirs)


def _deliver() -> Iterator[Flow]:
    table, again = Table.DELIVER, Resubmit(Table.DELIVER)
    # The outer tag alone says which network: with a second one, that a switch may be set to see, it goes nowhere.
    tagged = (Move(Field.VLAN_TCI, Field.REG13, 12), PopVlan(), set_bit(Bits.TRUNK, False), again)
    yield flow(table, 900, [_TAGGED, flag(trunk=True)], *tagged)
    yield flow(table, 890, [_TAGGED])
    learn = Learn(Table.LEARNT, 100, _LEARNT_TIMEOUT, _LEARNT_LIMIT, LEARNT_COOKIE)
    unicast = Condition(Field.ETH_SRC, 0, _MULTICAST_BIT)
    yield flow(table, 800, [flag(teaches=True), unicast], learn, set_bit(Bits.TEACHES, False), again)
    yield flow(table, 100, [], Load(Field.REG0, 0), Resubmit(Table.LEARNT), Resubmit(Table.FORWARD))
    # Learnt, and no flow for it: behind a VM whose sources are not checked. It decides.
    yield flow(Table.FORWARD, 50, [], Move(Field.REG0, Field.REG14, 16), *ENTER_INGRESS)


def _reject(reflector: int) -> Iterator[Flow]:
    """Rejected frames go to the reflector with the way back in their destination MAC, which comes back as source.

    Resets are not answered either: the reflector sees to that.
    """
    table = Table.REJECT
    for kind in _IP:
        yield flow(table, 200, [kind, Condition(Field.IP_FRAG, 2, 2)])
    yield flow(table, 200, [Condition(Field.ETH_DST, _MULTICAST_BIT, _MULTICAST_BIT)])
    yield flow(table, 200, [(Field.ETH_TYPE, IPV4), Condition(Field.IPV4_DST, 0xE0000000, 0xF0000000)])
    yield flow(table, 200, [(Field.ETH_TYPE, IPV4), Condition(Field.IPV4_DST, 0xFFFFFFFF)])
    yield flow(table, 200, [(Field.ETH_TYPE, IPV6), Condition(Field.IPV6_DST, 0xFF << 120, 0xFF << 120)])
    yield flow(
        table,
        100,
        [],
        CtClear(),
        Load(Field.ETH_DST, 2 << 40),
        Move(Field.NXM_IN_PORT, Field.ETH_DST, 16, 0, 24),
        Move(Field.REG13, Field.ETH_DST, 12, 0, 12),
        Move(Field.REG14, Field.ETH_DST, 12),  # what the reflector's limit counts by
        Output(reflector),
    )
    back = (Move(Field.ETH_SRC, Field.REG0, 16, 24), Move(Field.ETH_SRC, Field.REG13, 12, 12))
    yield flow(
        Table.PORT, 100, [(Field.REG14, reflector)], *back, Load(Field.ETH_SRC, _ANSWER_MAC), Resubmit(Table.ANSWER)
    )
    yield flow(Table.ANSWER, 50, [], OutputField(Field.REG0))


def _udp(kind: int, source: int, destination: int) -> list[Asked]:
    return [(Field.ETH_TYPE, kind), (Field.IP_PROTO, UDP), (Field.UDP_SRC, source), (Field.UDP_DST, destination)]


def _icmpv6(kind: int) -> list[Asked]:
    return [(Field.ETH_TYPE, IPV6), (Field.IP_PROTO, ICMPV6), (Field.ICMPV6_TYPE, kind)]


def _ct(**states: bool) -> Condition:
    value = mask = 0
    for name, is_set in states.items():
        bit = getattr(CtState, name.upper())
        mask |= bit
        value |= bit * is_set
    return Condition(Field.CT_STATE, value, mask)
