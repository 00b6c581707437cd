"""One OpenFlow 1.4 connection to a bridge: bundles, lists of flows, what others change, zones forgotten.

Every call ends within its patience, whatever the switch does. After an error that is not a plain refusal the
connection is of no use any more: whoever holds it closes it, and begins with a new one. Refuses older versions.
"""

import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from portward.dataplane.openvswitch.codec import (
    Command,
    decode_event,
    decode_flows,
    decode_ports,
    decode_removed,
    encode_flow_mod,
    encode_flow_request,
    encode_match,
)
from portward.dataplane.openvswitch.flows import Flow, FlowKey, FlowStats
from portward.dataplane.protocol import DataplaneError

_VERSION = 5
_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY, _EXPERIMENTER = 0, 1, 2, 3, 4
_SET_CONFIG, _FLOW_REMOVED, _FLOW_MOD = 9, 11, 14
_MULTIPART_REQUEST, _MULTIPART_REPLY = 18, 19
_BARRIER_REQUEST, _BARRIER_REPLY = 20, 21
_BUNDLE_CONTROL, _BUNDLE_ADD = 33, 34
_FLOWS, _PORTS, _MONITOR = 1, 4, 16
_OPEN, _COMMIT, _DISCARD = 0, 4, 6
_ATOMIC_ORDERED = 3
_MORE = 1
_ALL_TABLES = 0xFF
_ANY = 0xFFFFFFFF
_NICIRA, _FLUSH_ZONE = 0x2320, 29
_ADDED, _REMOVED, _MODIFIED, _ABBREVIATED = 1, 2, 3, 4
_PATIENCE = 5.0
_READ = 1 << 18
#: What this module asks a monitor for: additions, removals, changes (OpenFlow 1.4, 7.3.5.17).
_WATCHED = 2 | 4 | 8


class SwitchGone(DataplaneError):
    """The switch ended the connection, or does not answer: what it did with the last request is not known."""


class Refused(DataplaneError):
    """The switch refused a request, and changed nothing."""


class FlowChange(NamedTuple):
    """One line of a bundle. ``told``: the switch says what the flow had counted when it is removed."""

    command: Command
    flow: Flow
    cookie: int
    told: bool = False


class FlowEvent(NamedTuple):
    """Somebody else added, removed or changed a flow. One with fields unknown to us has no match."""

    key: FlowKey
    cookie: int


class OpenflowConnection:
    """A connection to the management socket ``path`` of a bridge.

    Raises:
        SwitchGone: nobody answers there.
        Refused: the bridge does not speak OpenFlow 1.4.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._xid = 0
        self._received = bytearray()
        self._events: list[FlowEvent] = []
        self._removed: list[FlowStats] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(_PATIENCE)
            self._socket.connect(str(path))
            self._socket.setblocking(False)
            deadline = time.monotonic() + _PATIENCE
            # Said before anything else (7.5.1): the one version that is understood.
            self._send(self._message(_HELLO, struct.pack("!HHI", 1, 8, 1 << _VERSION), self._next()), deadline)
            version = 0
            while not version:
                version = self._hello(deadline)
            # A length for packets that nobody sends us: without one, such a connection is not told of removed flows.
            self._send(self._message(_SET_CONFIG, struct.pack("!HH", 0, 128), self._next()), deadline)
        except OSError as error:
            self._socket.close()
            raise SwitchGone(f"the switch does not answer at {path}: is ovs-vswitchd up? ({error})") from error
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor; readable when the switch says something."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def commit(self, changes: Sequence[FlowChange]) -> None:
        """Make all of ``changes`` at once, or none of them.

        Raises:
            Refused: one of them is refused; the message says which, and why.
            SwitchGone: it is not known whether they were made.
        """
        deadline = time.monotonic() + _PATIENCE
        bundle = self._next()
        opened, last = self._next(), self._next()
        parts = [self._control(opened, bundle, _OPEN)]
        of_xid: dict[int, FlowChange] = {}
        for change in changes:
            xid = self._next()
            of_xid[xid] = change
            body = encode_flow_mod(
                change.command, change.flow.key, change.flow.actions, cookie=change.cookie, told=change.told
            )
            inner = self._message(_FLOW_MOD, body, xid)
            parts.append(self._message(_BUNDLE_ADD, struct.pack("!I2xH", bundle, _ATOMIC_ORDERED) + inner, xid))
        parts.append(self._control(last, bundle, _COMMIT))
        self._send(b"".join(parts), deadline)
        refused: Refused | None = None
        while True:
            kind, xid, body = self._next_message(deadline)
            if kind == _ERROR and (xid in of_xid or xid in (opened, last)):
                refused = refused or Refused(_refusal(body, of_xid.get(xid)))
                if xid == last:
                    raise refused
            elif kind == _BUNDLE_CONTROL and xid == last:
                if refused is not None:
                    raise refused
                return

    def dump(self, cookie: int, mask: int, table: int = _ALL_TABLES) -> list[FlowStats]:
        """The flows whose cookie is ``cookie`` in the bits of ``mask``. Those with fields unknown to us have no match.

        Raises:
            SwitchGone: the switch does not answer.
        """
        found: list[FlowStats] = []
        for body in self._multipart(_FLOWS, encode_flow_request(cookie, mask, table)):
            found += decode_flows(body)
        return found

    def sent(self) -> dict[int, int]:
        """How many frames have left by each port, by its OpenFlow number.

        Raises:
            SwitchGone: the switch does not answer.
        """
        bodies = self._multipart(_PORTS, struct.pack("!I4x", _ANY))
        return {port: packets for body in bodies for port, packets in decode_ports(body)}

    def monitor(self, tables: Iterable[int]) -> None:
        """Have the switch tell of flows that others change in ``tables`` from now on.

        Raises:
            Refused: it cannot: it is older than Open vSwitch 3.0.
            SwitchGone: it does not answer.
        """
        everything = encode_match(())
        requests = [
            struct.pack("!IIIHBB", number, _ANY, _ANY, _WATCHED, table, 0) + everything
            for number, table in enumerate(tables, 1)
        ]
        for body in self._multipart(_MONITOR, b"".join(requests)):
            self._note(body)

    def events(self) -> list[FlowEvent]:
        """What others changed since this was last asked.

        Raises:
            SwitchGone: the connection is lost.
        """
        while self._fill(0):
            pass
        while (message := self._take()) is not None:
            self._handle(*message)
        events, self._events = self._events, []
        return events

    @property
    def has_events(self) -> bool:
        """Whether there are events that came with something else: the descriptor says nothing of them."""
        return bool(self._events)

    def removed(self) -> list[FlowStats]:
        """Flows that are gone since this was last asked, of those that were added as ``told``."""
        removed, self._removed = self._removed, []
        return removed

    def flush_zone(self, zone: int) -> None:
        """Forget all connections of the connection-tracking zone.

        Raises:
            Refused, SwitchGone: it was not possible.
        """
        deadline = time.monotonic() + _PATIENCE
        asked, barrier = self._next(), self._next()
        flush = self._message(_EXPERIMENTER, struct.pack("!II6xH", _NICIRA, _FLUSH_ZONE, zone), asked)
        self._send(flush + self._message(_BARRIER_REQUEST, b"", barrier), deadline)
        while True:
            kind, xid, body = self._next_message(deadline)
            if kind == _ERROR and xid == asked:
                raise Refused(_refusal(body, None))
            if kind == _BARRIER_REPLY and xid == barrier:
                return

    def _multipart(self, kind: int, request: bytes) -> list[bytes]:
        deadline = time.monotonic() + _PATIENCE
        asked = self._next()
        self._send(self._message(_MULTIPART_REQUEST, struct.pack("!HH4x", kind, 0) + request, asked), deadline)
        parts: list[bytes] = []
        while True:
            type_, xid, body = self._next_message(deadline)
            if xid != asked:
                continue
            if type_ == _ERROR:
                raise Refused(_refusal(body, None))
            if type_ == _MULTIPART_REPLY:
                parts.append(body[8:])
                if not struct.unpack_from("!H", body, 2)[0] & _MORE:
                    return parts

    def _hello(self, deadline: float) -> int:
        while (message := self._take()) is None:
            self._wait(deadline)
        kind, _, _ = message
        if kind == _ERROR:
            raise Refused(
                f"the bridge at {self._path} does not speak OpenFlow 1.4: add OpenFlow14 to its protocols "
                "(ovs-vsctl add bridge NAME protocols OpenFlow14)"
            )
        return int(kind == _HELLO)

    def _next(self) -> int:
        self._xid = self._xid % 0x7FFFFFFF + 1
        return self._xid

    def _message(self, kind: int, body: bytes, xid: int) -> bytes:
        return struct.pack("!BBHI", _VERSION, kind, 8 + len(body), xid) + body

    def _control(self, xid: int, bundle: int, kind: int) -> bytes:
        return self._message(_BUNDLE_CONTROL, struct.pack("!IHH", bundle, kind, _ATOMIC_ORDERED), xid)

    def _next_message(self, deadline: float) -> tuple[int, int, bytes]:
        """The next message that answers something."""
        while True:
            while (message := self._take()) is None:
                self._wait(deadline)
            if not self._handle(*message):
                return message

    def _handle(self, kind: int, xid: int, body: bytes) -> bool:
        """Deal with what the switch says unasked; was it that?"""
        if kind == _ECHO_REQUEST:
            self._send(self._message(_ECHO_REPLY, body, xid), time.monotonic() + _PATIENCE)
        elif kind == _FLOW_REMOVED:
            self._removed.append(decode_removed(body))
        elif kind == _MULTIPART_REPLY and struct.unpack_from("!H", body)[0] == _MONITOR and not xid:
            self._note(body[8:])
        else:
            return False
        return True

    def _note(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            length, event = struct.unpack_from("!HH", body, at)
            if event in (_ADDED, _REMOVED, _MODIFIED):
                self._events.append(FlowEvent(*decode_event(body[at : at + length])))
            at += length

    def _send(self, data: bytes, deadline: float) -> None:
        """Send all of it, and take meanwhile what comes: a switch whose answers nobody takes takes no requests."""
        view = memoryview(data)
        while view:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SwitchGone(f"the switch takes nothing at {self._path}")
            readable, writable, _ = select.select([self._socket], [self._socket], [], left)
            if readable:
                self._fill(0)
            if writable:
                try:
                    view = view[self._socket.send(view[:_READ]) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise SwitchGone(f"the switch ended the connection at {self._path}: {error.strerror}") from error

    def _wait(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._fill(left):
            raise SwitchGone(f"the switch did not answer at {self._path} within {_PATIENCE:.0f} s")

    def _fill(self, seconds: float) -> bool:
        """Take what came, or comes within ``seconds``; was there something?"""
        if not select.select([self._socket], [], [], seconds)[0]:
            return False
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return False
        except OSError as error:
            raise SwitchGone(f"the switch ended the connection at {self._path}: {error.strerror}") from error
        if not data:
            raise SwitchGone(f"the switch ended the connection at {self._path}")
        self._received += data
        return True

    def _take(self) -> tuple[int, int, bytes] | None:
        """The oldest message that is there as a whole: type, transaction, body."""
        if len(self._received) < 8:
            return None
        _, kind, length, xid = struct.unpack_from("!BBHI", self._received)
        if length < 8 or len(self._received) < length:
            return None
        body = bytes(self._received[8:length])
        del self._received[:length]
        return kind, xid, body


def _refusal(body: bytes, change: FlowChange | None) -> str:
    kind, code = struct.unpack_from("!HH", body)
    about = f" of {change.flow.key}" if change is not None else ""
    return f"the switch refused a change{about}: OpenFlow error {kind}, code {code}"
