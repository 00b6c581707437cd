"""Flows as bytes of OpenFlow 1.4, with the extensions of Open vSwitch: matches, actions and flow-mods. Pure.

Actions are written in the form in which Open vSwitch lists them, so that what a switch lists can be compared with
what it should have. Sources: OpenFlow Switch Specification 1.4.0, ovs-fields(7), ovs-actions(7), and for the
extensions' layout nicira-ext.h of Open vSwitch. Refuses to read actions: they are compared as bytes.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache

from portward.dataplane.openvswitch.flows import (
    Action,
    Clone,
    Commit,
    Condition,
    Conjunction,
    CtClear,
    Field,
    FlowKey,
    FlowStats,
    Learn,
    Load,
    Match,
    Move,
    Output,
    OutputField,
    PopVlan,
    PushVlan,
    Resubmit,
    Track,
)
from portward.dataplane.protocol import DataplaneError

_MASKED = 0x100
_ANY = 0xFFFFFFFF
_NICIRA = 0x00002320
_IN_PORT = 0xFFF8
_NO_TABLE = 0xFF
_COMMIT = 1
#: The older headers of fields, by which the extensions' actions are listed.
_NXM = {
    Field.ETH_DST: 0x00000206,
    Field.ETH_SRC: 0x00000406,
    Field.IPV4_SRC: 0x00000E04,
    Field.ARP_SPA: 0x00002004,
    Field.ARP_SHA: 0x00012206,
    Field.IPV6_SRC: 0x00012610,
    Field.ND_TARGET: 0x00012E10,
}
#: Fields that others need in front of them.
_FIRST = {Field.ETH_TYPE: 0, Field.IP_PROTO: 1, Field.CT_STATE: 2, Field.CT_NW_PROTO: 3}


class Command(IntEnum):
    """What a flow-mod does (OpenFlow 1.4, 7.3.4.1)."""

    ADD = 0
    DELETE = 3  # all flows of its table that match, and have its cookie
    DELETE_STRICT = 4


class UnknownField(DataplaneError):
    """A match has a field that none of our flows has."""


def encode_match(match: Match) -> bytes:
    """``ofp_match``, padded."""
    fields = b"".join([_condition(it) for it in sorted(match, key=lambda it: (_FIRST.get(it.field, 9), it.field))])
    return struct.pack("!HH", 1, 4 + len(fields)) + fields + bytes(-(4 + len(fields)) % 8)


def decode_match(data: bytes) -> tuple[Match, int]:
    """The match that ``data`` begins with, and its length with padding.

    Raises:
        UnknownField: it has one that is not ours.
    """
    _, length = struct.unpack_from("!HH", data)
    found, at = [], 4
    while at < length:
        header = int.from_bytes(data[at : at + 4], "big")
        size = header & 0xFF
        masked = bool(header & _MASKED)
        plain = header & ~_MASKED & ~0xFF | (size // 2 if masked else size)
        if plain not in _FIELDS:
            raise UnknownField(f"field {header:#x} is none of ours")
        width = plain & 0xFF
        value = int.from_bytes(data[at + 4 : at + 4 + width], "big")
        mask = int.from_bytes(data[at + 4 + width : at + 4 + size], "big") if masked else None
        if mask == (1 << 8 * width) - 1:
            mask = None
        found.append(Condition(_FIELDS[plain], value, mask))
        at += 4 + size
    return tuple(sorted(found)), length + -length % 8


def decode_flows(body: bytes) -> Iterator[FlowStats]:
    """The flows that a part of a multipart answer lists. Those with fields unknown to us have no match."""
    at = 0
    while at < len(body):
        length, table, priority = struct.unpack_from("!HBx4x4xH", body, at)
        cookie, packets, bytes_ = struct.unpack_from("!QQQ", body, at + 24)
        match, size = _known(body[at + 48 : at + length])
        instructions = body[at + 48 + size : at + length]
        yield FlowStats(FlowKey(table, priority, match), cookie, instructions[8:], packets, bytes_)
        at += length


def decode_removed(body: bytes) -> FlowStats:
    """The flow that is gone, as the switch tells of it (OpenFlow 1.4, 7.4.2)."""
    cookie, priority, _, table = struct.unpack_from("!QHBB", body)
    packets, bytes_ = struct.unpack_from("!QQ", body, 24)
    match, _ = _known(body[40:])
    return FlowStats(FlowKey(table, priority, match), cookie, b"", packets, bytes_)


def decode_event(update: bytes) -> tuple[FlowKey, int]:
    """The flow that a monitor tells of, and its cookie (7.3.5.17.2)."""
    table, priority, cookie = struct.unpack_from("!4xB5xH4xQ", update)
    match, _ = _known(update[24:])
    return FlowKey(table, priority, match), cookie


def decode_ports(body: bytes) -> Iterator[tuple[int, int]]:
    """Number, and frames sent out, of the ports that a part of a multipart answer lists (7.3.5.6)."""
    at = 0
    while at < len(body):
        (length,) = struct.unpack_from("!H", body, at)
        (port,) = struct.unpack_from("!I", body, at + 4)
        yield port, struct.unpack_from("!Q", body, at + 24)[0]
        at += length


def _known(data: bytes) -> tuple[Match, int]:
    try:
        return decode_match(data)
    except UnknownField:
        length = struct.unpack_from("!H", data, 2)[0]
        return (), length + -length % 8


_FIELDS: dict[int, Field] = {int(field): field for field in Field}


@lru_cache(maxsize=65536)
def _condition(condition: Condition) -> bytes:
    field, value, mask = condition
    width = field & 0xFF
    if mask is None:
        return struct.pack("!I", field) + value.to_bytes(width, "big")
    header = field & ~0xFF | _MASKED | 2 * width
    return struct.pack("!I", header) + value.to_bytes(width, "big") + mask.to_bytes(width, "big")


@lru_cache(maxsize=65536)
def encode_actions(actions: tuple[Action, ...]) -> bytes:
    """The list of ``actions``."""
    return b"".join([_action(action) for action in actions])


def _action(action: Action) -> bytes:
    match action:
        case Resubmit(table):
            return _nicira(14, struct.pack("!HB3x", _IN_PORT, table))
        case Load():
            return _load(action)
        case Move(source, destination, bits, source_first, destination_first):
            headers = _NXM.get(source, source), _NXM.get(destination, destination)
            return _nicira(6, struct.pack("!HHHII", bits, source_first, destination_first, *headers))
        case Output(port):
            return struct.pack("!HHIH6x", 0, 16, port, 0)
        case OutputField(field):
            return _nicira(15, struct.pack("!HIH6x", field.bits - 1, field, 0))
        case Track(table, zone):
            return _nicira(35, struct.pack("!HIHB3xH", 0, zone, 15, table, 0))
        case Commit(zone, mark):
            marking = _load(Load(Field.CT_MARK, mark))
            return _nicira(35, struct.pack("!HIHB3xH", _COMMIT, zone, 15, _NO_TABLE, 0) + marking)
        case CtClear():
            return _nicira(43, bytes(6))
        case Clone(actions):
            return _nicira(42, bytes(6) + encode_actions(actions))
        case PopVlan():
            return struct.pack("!HH4x", 18, 8)
        case PushVlan():
            return struct.pack("!HHH2x", 17, 8, 0x8100)
        case Conjunction(id_, clause, clauses):
            return _nicira(34, struct.pack("!BBI", clause, clauses, id_))
        case Learn():
            return _learn(action)


def _load(action: Load) -> bytes:
    field, value, first, bits = action
    if bits:
        return _nicira(7, struct.pack("!HIQ", first << 6 | bits - 1, field, value))
    data = struct.pack("!I", field) + value.to_bytes(field & 0xFF, "big")
    length = 4 + len(data)
    length += -length % 8
    return struct.pack("!HH", 25, length) + data + bytes(length - 4 - len(data))


def _learn(action: Learn) -> bytes:
    copied = b"".join(
        struct.pack("!HIHIH", kind << 11 | bits, _NXM.get(source, source), 0, _NXM.get(destination, destination), 0)
        for kind, bits, source, destination in (
            (0, 48, Field.ETH_SRC, Field.ETH_DST),
            (0, 32, Field.REG13, Field.REG13),
            (1, 16, Field.REG14, Field.REG0),
        )
    )
    head = struct.pack("!HHHQHBxHH", action.timeout, 0, action.priority, action.cookie, 0, action.table, 0, 0)
    return _nicira(45, head + struct.pack("!IHH", action.limit, 0, 0) + copied)


def _nicira(kind: int, body: bytes) -> bytes:
    length = 10 + len(body)
    padding = -length % 8
    return struct.pack("!HHIH", 0xFFFF, length + padding, _NICIRA, kind) + body + bytes(padding)


def encode_flow_mod(
    command: Command, key: FlowKey, actions: tuple[Action, ...], *, cookie: int, told: bool = False
) -> bytes:
    """The body of a flow-mod. ``told``: the switch tells when the flow is removed, and what it had counted."""
    listed = encode_actions(actions)
    instructions = struct.pack("!HH4x", 4, 8 + len(listed)) + listed if listed else b""
    mask = (1 << 64) - 1 if command is Command.DELETE else 0
    head = struct.pack(
        "!QQBBHHHIIIHH", cookie, mask, key.table, command, 0, 0, key.priority, _ANY, _ANY, _ANY, int(told), 0
    )
    return head + encode_match(key.match) + instructions


def encode_flow_request(cookie: int, mask: int, table: int) -> bytes:
    """The body of a request for the flows whose cookie is ``cookie`` in the bits of ``mask``."""
    return struct.pack("!B3xII4xQQ", table, _ANY, _ANY, cookie, mask) + encode_match(())
