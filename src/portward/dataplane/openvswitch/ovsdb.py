"""What the switch's database says of a bridge and its interfaces, as values; and the little that Portward writes there.

One connection for ever, which never makes its thread wait: what has come is taken, what is lost is connected again as
soon as the server's socket is back. While there is no connection the last picture stands, for the flows in the switch
stand as well. Refuses to write anything but zones and the reflector's port.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from portward.dataplane.openvswitch.views import SCHEMA, ZONE, BridgeView, InterfaceView, KeptZone, Views
from portward.dataplane.openvswitch.wake import Wake
from portward.dataplane.protocol import DataplaneError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ovs imports eventlet if that happens to be there, and eventlet says it is old
    import ovs.db.idl  # type: ignore[import-untyped]
    import ovs.timeval  # type: ignore[import-untyped]

__all__ = ["BridgeView", "InterfaceView", "KeptZone", "Ovsdb"]
#: The mark of what is ours, in external_ids.
OWNER = "portward-owner"
_REFLECTOR = "reflector"
_PATIENCE = 5.0  # seconds for one transaction
_TRANSACTIONS = 3  # of one change, when another client changes the same
_MESSAGES = 0.2  # seconds that one update may take messages from the server; the rest is taken by the next
_RETRY = 1000  # milliseconds between attempts to connect when no new socket shows; the least that the library takes


class Ovsdb:
    """The database of the switch whose sockets are in ``run_dir``. Of one thread.

    Raises:
        DataplaneError: the kernel gives no descriptors.
    """

    def __init__(self, run_dir: Path) -> None:
        self._socket = run_dir / "db.sock"
        self._wake = Wake(run_dir)
        helper = ovs.db.idl.SchemaHelper(schema_json=SCHEMA)
        for table in SCHEMA["tables"]:
            helper.register_table(table)
        self._idl = ovs.db.idl.Idl(f"unix:{self._socket}", helper, leader_only=False)
        self._session = self._idl._session
        self._session.reconnect.set_backoff(_RETRY, _RETRY)
        self._views = Views()
        self._idl.notify = self._views.changed
        self._plugged: tuple[str, str, int] | None = None  # the reflector was there at this version of the database
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

    def wake(self) -> None:
        """Have the descriptor be readable until the next ``update``."""
        self._wake.again()

    def bridge(self, name: str) -> BridgeView | None:
        """The bridge as the database last had it; ``None``: there is none, or nothing is known yet."""
        bridges, managers = (self._idl.tables[table].rows.values() for table in ("Bridge", "Manager"))
        return self._views.bridge(name, bridges, managers, self._idl.change_seqno)

    def set_zones(self, zones: Mapping[str, KeptZone]) -> None:
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

        if self._plugged != (bridge, port_name, self._idl.change_seqno) or not self.connected:
            self._commit(write)
            self._plugged = bridge, port_name, self._idl.change_seqno

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
