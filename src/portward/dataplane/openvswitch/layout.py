"""Where things are on the bridge: tables, bits of registers, cookies. Numbers, and what they mean; no flows.

Registers, all of a packet's way through our tables: reg8 the policy that is asked, reg9 and reg12 its pages of
address sets, reg10 the profile of the port under decision, reg11 its connection-tracking zone, reg13 its network (the
VLAN of the bridge; 0: no tag), reg14 its OpenFlow port, reg15 the bits below. reg0 to reg7 hold what a few flows in a
row need; they are zero when a packet goes on to the tables of others.
"""

from enum import IntEnum

from portward.dataplane.openvswitch.flows import Condition, Field


class Table(IntEnum):
    """Our tables. Of table 0, and of others' tables, only hooks are ours."""

    CLASSIFY = 0
    PORT = 150  # what is known of the port in reg14
    EGRESS = 151  # frames from ports: admitted, or from a VM
    OWN = 152  # whether the address in a register is the port's
    CHECKED = 153  # frames from a VM whose source is its own
    STATE = 154  # what connection tracking says: accepted, invalid, to be judged
    SIDE = 155  # which of the port's two lists judges
    NEXT = 156  # which policy comes next in a list
    POLICY = 157  # the rules of all policies
    ALLOW = 158  # marks an accepted connection
    ADMIT = 159  # past a decision
    DELIVER = 160  # where frames go that have passed egress
    COPIES = 161  # a copy of a broadcast for each VM
    LEARNT = 162  # by which port a source was last seen: written by the switch itself
    FORWARD = 163  # out of ports that are not filtered
    INGRESS = 164  # frames to a VM
    REJECT = 165  # to the reflector
    ANSWER = 166  # from the reflector
    TRACKED = 167  # back from connection tracking: the port is looked up anew, for it may have another profile now
    TICK = 168  # no packet comes here: a flow that is changed to wake the switch's revalidators
    SOURCE_SETS = 169  # which address sets hold the connection's source
    DESTINATION_SETS = 170  # and which its destination
    COMMITTED = 171  # a packet whose connection was marked just now


class Bits(IntEnum):
    """Bits of reg15, by their place."""

    PAST_EGRESS = 0
    PAST_INGRESS = 1
    SECURED = 2  # port security: sources are checked
    TRUNK = 3  # frames may bear tags
    ADMITTED = 4  # not filtered: an uplink, a patch, a port of the network itself
    TEACHES = 5  # may send from MACs that nobody has told us of
    OWN = 6  # the last look into OWN found something
    OWN_BEFORE = 7  # so did the one before
    TO_VM = 8  # the ingress list judges, else the egress list


#: Bits of reg15 that say how far the way through a list is: the stratum, and the place in it.
POSITION_FIRST, POSITION_BITS = 16, 16
STRATUM_SIZE = 1 << 12

#: Cookies of our flows: this in the high 16 bits, the commit that added the flow in the low 32.
COOKIE, COOKIE_MASK = 0x7077 << 48, 0xFFFF << 48
#: That of flows that the switch writes itself.
LEARNT_COOKIE = COOKIE | 1 << 32

#: The lowest bits of a connection's mark, which say what lists accepted it; above them is the epoch.
MARK_BITS = 2

#: Priorities of hooks in others' tables: above all of theirs, or just above their NORMAL.
HOOK_ABOVE, HOOK_BELOW = 65000, 50


def flag(**bits: bool) -> Condition:
    """The condition that these ``Bits`` of reg15 are set, or not."""
    value = mask = 0
    for name, is_set in bits.items():
        place = Bits[name.upper()]
        mask |= 1 << place
        value |= is_set << place
    return Condition(Field.REG15, value, mask)
