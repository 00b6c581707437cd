"""What the switch's database says of a bridge and its interfaces, as values; and the little that Portward writes there.

One connection for ever, which never makes its thread wait: what has come is taken, what is lost is connected again as
soon as the server's socket is back. While there is no connection the last picture stands, for the flows in the switch
stand as well. Refuses to trust what it reads: names and ids are whatever somebody wrote, and go out as plain strings.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from portward.dataplane.openvswitch.wake import Wake
from portward.dataplane.protocol import DataplaneError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ovs imports eventlet if that happens to be there, and eventlet says it is old
    import ovs.db.idl  # type: ignore[import-untyped]
    import ovs.timeval  # type: ignore[import-untyped]

#: Where an interface's zone and the marks of what is ours are kept, keys of external_ids.
ZONE, OWNER = "portward-zone", "portward-owner"
_IFACE_ID, _REFLECTOR = "iface-id", "reflector"
_PATIENCE = 5.0  # seconds for one transaction
_TRANSACTIONS = 3  # of one change, when another client changes the same
_MESSAGES = 0.2  # seconds that one update may take messages from the server; the rest is taken by the next
_RETRY = 1000  # milliseconds between attempts to connect when no new socket shows; the least that the library takes
_DIGITS = 9

_STRING, _BOUND = "string", {"key": "string", "value": "string", "min": 0, "max": "unlimited"}


def _optional(kind: str) -> dict[str, object]:
    return {"type": {"key": kind, "min": 0, "max": 1}}


def _rows(table: str) -> dict[str, object]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}}


# What is read of the schema, in the terms of ovs-vswitchd.conf.db(5): written here, so that a connection needs none.
_SCHEMA = {
    "name": "Open_vSwitch",
    "version": "1.0.0",
    "tables": {
        "Bridge": {
            "columns": {
                "name": {"type": _STRING},
                "fail_mode": _optional("string"),
                "datapath_type": {"type": _STRING},
                "ports": _rows("Port"),
            }
        },
        "Port": {
            "columns": {
                "name": {"type": _STRING},
                "tag": _optional("integer"),
                "vlan_mode": _optional("string"),
                "interfaces": _rows("Interface"),
                "external_ids": {"type": _BOUND},
            }
        },
        "Interface": {
            "columns": {
                "name": {"type": _STRING},
                "type": {"type": _STRING},
                "ofport": _optional("integer"),
                "external_ids": {"type": _BOUND},
                "error": _optional("string"),
            }
        },
    },
}


class InterfaceView(msgspec.Struct, frozen=True):
    """An interface of a bridge, and what its Port says of it.

    ``type`` is empty for a device of the system. ``ofport`` is ``None`` until the switch has opened it, and when that
    failed; ``error`` then says why. ``zone`` is ``None`` if there is none, or no number below 10^9. ``tag`` is the
    Port's, and ``trunk`` says that it carries tagged frames (any mode but access). ``bonded``: the Port has others.
    """

    name: str
    type: str
    ofport: int | None
    iface_id: str | None
    zone: int | None
    tag: int | None
    trunk: bool
    bonded: bool
    error: str | None


class BridgeView(msgspec.Struct, frozen=True):
    """A bridge, its interfaces in the order of their names."""

    name: str
    fail_mode: str | None
    datapath_type: str
    interfaces: tuple[InterfaceView, ...]


class Ovsdb:
    """The database of the switch whose sockets are in ``run_dir``. Of one thread.

    Raises:
        DataplaneError: the kernel gives no descriptors.
    """

    def __init__(self, run_dir: Path) -> None:
        self._socket = run_dir / "db.sock"
        self._wake = Wake(run_dir)
        helper = ovs.db.idl.SchemaHelper(schema_json=_SCHEMA)
        helper.register_table("Bridge")
        helper.register_table("Port")
        helper.register_table("Interface")
        self._idl = ovs.db.idl.Idl(f"unix:{self._socket}", helper, leader_only=False)
        self._session = self._idl._session
        self._session.reconnect.set_backoff(_RETRY, _RETRY)
        self._views: dict[str, BridgeView] = {}
        self._viewed = -1  # the library's count of changes that the views are of
        self._told = (False, 0)
        self._take()

    @property
    def connected(self) -> bool:
        """Whether the picture is the server's, and follows it."""
        return bool(self._session.is_connected()) and self._idl.state == self._idl.IDL_S_MONITORING

    def filenos(self) -> tuple[int, ...]:
        """The descriptor to wait on, always the same: readable when ``update`` has something to do."""
        return (self._wake.fileno(),)

    def update(self) -> bool:
        """Take what the server sent, connect if that is needed.

        Takes 0.2 s at most, a piece of the server's that is larger apart.

        Returns:
            Whether picture or connection changed since this was last asked, by what a transaction took in as well.
        """
        self._take()
        before, self._told = self._told, self._now()
        return before != self._told

    def _now(self) -> tuple[bool, int]:
        return self.connected, self._idl.change_seqno

    def _take(self) -> None:
        if self._wake.look() and self._session.rpc is None and self._session.stream is None:
            now = ovs.timeval.msec()  # a socket was made, which may be the server's: try it without the usual pause
            self._session.reconnect.disable(now)
            self._session.reconnect.enable(now)
        deadline = time.monotonic() + _MESSAGES
        while True:
            self._idl.run()
            self._wake.begin()
            self._idl.wait(self._wake)
            if self._wake.pause != 0 or time.monotonic() > deadline:
                break
        self._wake.end()

    def bridge(self, name: str) -> BridgeView | None:
        """The bridge as the database last had it; ``None``: there is none, or nothing is known yet."""
        if self._viewed != self._idl.change_seqno:
            self._views = {row.name: _bridge(row) for row in self._idl.tables["Bridge"].rows.values()}
            self._viewed = self._idl.change_seqno
        return self._views.get(name)

    def set_zones(self, zones: Mapping[str, int]) -> None:
        """Keep the zone of each named interface with it; one that is gone meanwhile is passed over.

        Returns when the database has it.

        Raises:
            DataplaneError: it has not; which of a change whose answer did not come is not known.
        """

        def write() -> None:
            for row in self._idl.tables["Interface"].rows.values():
                zone = zones.get(row.name)
                if zone is not None and row.external_ids.get(ZONE) != str(zone):
                    row.setkey("external_ids", ZONE, str(zone))

        self._commit(write)

    def add_reflector(self, bridge: str, port_name: str) -> None:
        """Plug the device ``port_name`` into ``bridge``, marked as ours, in place of any that was; once is enough.

        Raises:
            DataplaneError: there is no such bridge, the name is taken by a port of others, or the database has it not.
        """

        def write() -> None:
            row = self._bridge_row(bridge)
            if row is None:
                raise DataplaneError(f"the switch has no bridge {bridge}: make it, or name another in its place")
            there = False
            for port in self._reflectors(row):
                if port.name == port_name:
                    there = True
                else:
                    row.delvalue("ports", port)
            if not there:
                interface = self._idl.txn.insert(self._idl.tables["Interface"])
                interface.name = port_name
                port = self._idl.txn.insert(self._idl.tables["Port"])
                port.name = port_name
                port.interfaces = [interface]
                port.external_ids = {OWNER: _REFLECTOR}
                row.addvalue("ports", port)

        self._commit(write)

    def remove_reflector(self, bridge: str) -> None:
        """Take out what ``add_reflector`` put there; nothing to do if it is gone, or the bridge.

        Raises:
            DataplaneError: the database has it still.
        """

        def write() -> None:
            row = self._bridge_row(bridge)
            for port in self._reflectors(row) if row is not None else ():
                row.delvalue("ports", port)

        self._commit(write)

    def close(self) -> None:
        """Let go of the connection."""
        self._idl.close()
        self._wake.close()

    def _bridge_row(self, name: str) -> Any:
        return next((row for row in self._idl.tables["Bridge"].rows.values() if row.name == name), None)

    def _reflectors(self, bridge: Any) -> list[Any]:
        return [port for port in bridge.ports if port.external_ids.get(OWNER) == _REFLECTOR]

    def _commit(self, write: Callable[[], None]) -> None:
        try:
            self._transact(write)
        finally:
            if self._now() != self._told:
                self._wake.again()  # what came in meanwhile is still news to whoever waits

    def _transact(self, write: Callable[[], None]) -> None:
        """Do one transaction, what ``write`` says; anew when others changed the same."""
        deadline = time.monotonic() + _PATIENCE
        for _ in range(_TRANSACTIONS):
            self._take()
            if not self.connected:
                raise DataplaneError(f"the switch's database does not answer at {self._socket}: is ovsdb-server up?")
            transaction = ovs.db.idl.Transaction(self._idl)
            try:
                write()
            except BaseException:
                transaction.abort()
                raise
            transaction.commit()
            self._take()  # a long request is sent in part: what is waited for changes
            while (status := transaction.commit()) == transaction.INCOMPLETE:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DataplaneError(f"the switch's database at {self._socket} did not answer in {_PATIENCE:.0f} s")
                self._wake.wait(left)
                self._take()
            if status in (transaction.SUCCESS, transaction.UNCHANGED):
                return
            if status != transaction.TRY_AGAIN:
                break
        raise DataplaneError(f"the switch's database refused a change: {transaction.get_error() or status}")


def _bridge(row: Any) -> BridgeView:
    interfaces = [_interface(port, interface) for port in row.ports for interface in port.interfaces]
    return BridgeView(
        name=row.name,
        fail_mode=_only(row.fail_mode),
        datapath_type=row.datapath_type,
        interfaces=tuple(sorted(interfaces, key=lambda interface: interface.name)),
    )


def _interface(port: Any, row: Any) -> InterfaceView:
    ofport, tag, mode = _only(row.ofport), _only(port.tag), _only(port.vlan_mode)
    zone = row.external_ids.get(ZONE, "")
    return InterfaceView(
        name=row.name,
        type=row.type,
        ofport=ofport if ofport is not None and ofport > 0 else None,  # -1: the switch could not open it
        iface_id=row.external_ids.get(_IFACE_ID),
        zone=int(zone) if zone.isascii() and zone.isdigit() and len(zone) <= _DIGITS else None,
        tag=tag,
        trunk=tag is None if mode is None else mode != "access",
        bonded=len(port.interfaces) > 1,
        error=_only(row.error),
    )


def _only(values: list[Any]) -> Any:
    return values[0] if values else None
