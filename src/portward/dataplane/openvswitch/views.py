"""Bridges and interfaces as values, made from the rows of the switch's database.

A row is read anew only when it changed: to read one takes 0.1 ms, and a host has a thousand. Refuses to trust what it
reads: names and ids are whatever somebody wrote, and go out as plain strings.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

#: Where the zone of an interface is kept, a key of external_ids.
ZONE = "portward-zone"
IFACE_ID = "iface-id"
_DIGITS = 9

_STRING, _BOUND = "string", {"key": "string", "value": "string", "min": 0, "max": "unlimited"}


def _optional(kind: str) -> dict[str, object]:
    return {"type": {"key": kind, "min": 0, "max": 1}}


def _rows(table: str) -> dict[str, object]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}}


#: What others control the switch by: a controller of OpenFlow, or a manager of the database.
_REMOTE = {"target": {"type": _STRING}, "connection_mode": _optional("string")}
#: What is read of the database, in the terms of its schema (ovs-vswitchd.conf.db(5)), which so need not be fetched.
SCHEMA = {
    "name": "Open_vSwitch",
    "version": "1.0.0",
    "tables": {
        "Bridge": {
            "columns": {
                "name": {"type": _STRING},
                "fail_mode": _optional("string"),
                "datapath_type": {"type": _STRING},
                "ports": _rows("Port"),
                "controller": _rows("Controller"),
                "other_config": {"type": _BOUND},
            }
        },
        "Controller": {"columns": _REMOTE},
        "Manager": {"columns": _REMOTE},
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


class KeptZone(NamedTuple):
    """The zone of a port, as it is kept with its interface: with the port's id, for another must not take it over."""

    number: int
    port_id: str

    def __str__(self) -> str:
        return f"{self.number} {self.port_id}"


class InterfaceView(msgspec.Struct, frozen=True):
    """An interface of a bridge, and what its Port says of it.

    ``type`` is empty for a device of the system. ``ofport`` is ``None`` until the switch has opened it, and when that
    failed; ``error`` then says why. ``zone`` may be that of a port that was there before. ``tag`` is the Port's, and
    ``trunk`` says that it carries tagged frames (any mode but access). ``bonded``: the Port has others.
    """

    name: str
    type: str
    ofport: int | None
    iface_id: str | None
    zone: KeptZone | None
    tag: int | None
    trunk: bool
    bonded: bool
    error: str | None


class BridgeView(msgspec.Struct, frozen=True):
    """A bridge, its interfaces in the order of their names.

    ``in_band``: the switch passes what is sent to and from those who control it over the network, whoever sends it, by
    flows of its own that come before all others and that it shows nobody.
    """

    name: str
    fail_mode: str | None
    datapath_type: str
    in_band: bool
    interfaces: tuple[InterfaceView, ...]


class _Port(NamedTuple):
    rows: tuple[Any, ...]  # ids of the rows of its interfaces
    interfaces: tuple[InterfaceView, ...]


class Views:
    """The bridges of the database. It must be told of each row that comes, changes or goes (``changed``)."""

    def __init__(self) -> None:
        self._ports: dict[Any, _Port] = {}  # by the id of the port's row
        self._port_of: dict[Any, Any] = {}  # that id, by the id of an interface's row
        self._bridges: dict[str, BridgeView] = {}
        self._version = -1

    def changed(self, _event: str, row: Any, _old: Any = None) -> None:
        """``row``, of any table, is not as it was."""
        self._ports.pop(self._port_of.get(row.uuid, row.uuid), None)

    def bridge(self, name: str, rows: Iterable[Any], managers: Iterable[Any], version: int) -> BridgeView | None:
        """The bridge of that name, if it is one of ``rows``.

        These are all bridges, and ``managers`` all managers, at ``version`` of the database.
        """
        if self._version != version:
            known, self._ports, self._port_of = self._ports, {}, {}
            managed = any(map(_is_in_band, managers))
            self._bridges = {row.name: self._bridge(row, known, managed=managed) for row in rows}
            self._version = version
        return self._bridges.get(name)

    def _bridge(self, row: Any, known: dict[Any, _Port], *, managed: bool) -> BridgeView:
        interfaces: list[InterfaceView] = []
        for port in row.ports:
            seen = known.get(port.uuid) or _port(port)
            self._ports[port.uuid] = seen
            self._port_of.update(dict.fromkeys(seen.rows, port.uuid))
            interfaces += seen.interfaces
        return BridgeView(
            name=row.name,
            fail_mode=_only(row.fail_mode),
            datapath_type=row.datapath_type,
            in_band=row.other_config.get("disable-in-band") != "true"
            and (managed or any(map(_is_in_band, row.controller))),
            interfaces=tuple(sorted(interfaces, key=lambda interface: interface.name)),
        )


def _port(port: Any) -> _Port:
    rows = port.interfaces
    return _Port(tuple(row.uuid for row in rows), tuple(_interface(port, row, bonded=len(rows) > 1) for row in rows))


def _interface(port: Any, row: Any, *, bonded: bool) -> InterfaceView:
    ofport, tag, mode = _only(row.ofport), _only(port.tag), _only(port.vlan_mode)
    kept = row.external_ids
    zone, _, owner = kept.get(ZONE, "").partition(" ")
    is_zone = zone.isascii() and zone.isdigit() and len(zone) <= _DIGITS
    return InterfaceView(
        name=row.name,
        type=row.type,
        ofport=ofport if ofport is not None and ofport > 0 else None,  # -1: the switch could not open it
        iface_id=kept.get(IFACE_ID),
        zone=KeptZone(int(zone), owner) if is_zone else None,
        tag=tag,
        trunk=tag is None if mode is None else mode != "access",
        bonded=bonded,
        error=_only(row.error),
    )


def _is_in_band(remote: Any) -> bool:
    """Whether ``remote`` is reached over a network, and not said to be reached by another way than the bridge."""
    return str(remote.target).startswith(("tcp:", "ssl:")) and _only(remote.connection_mode) != "out-of-band"


def _only(values: list[Any]) -> Any:
    return values[0] if values else None
