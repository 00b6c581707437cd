"""Which interface of the bridge each port is, which are admitted unfiltered, and what is wrong with the rest. Pure.

An interface that is none of these gets no flow: nothing passes it. Refuses to guess: two interfaces that claim one
port are both left without.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from portward.dataplane.openvswitch.ovsdb import BridgeView, InterfaceView
from portward.dataplane.openvswitch.ports import AdmittedPort
from portward.model import CoveredPort

_PATCH = "patch"


class Found(NamedTuple):
    """What the interfaces of a bridge are."""

    interfaces: dict[str, InterfaceView]  # by the id of the port that is enforced on it
    errors: dict[str, str]  # by the id of a port that is not
    admitted: tuple[AdmittedPort, ...]
    unknown: tuple[str, ...]  # names of interfaces that nothing passes, and nobody has asked for


def find(
    bridge: BridgeView,
    ports: Iterable[CoveredPort],
    *,
    admitted: Collection[str],
    uplinks: Collection[str],
    ours: Collection[str],
) -> Found:
    """Find ``ports``, which are of virtual machines, among the interfaces of ``bridge``.

    ``admitted`` are ids of ports of the network itself, ``uplinks`` and ``ours`` names of interfaces.
    """
    by_id: dict[str, list[InterfaceView]] = defaultdict(list)
    by_name = {interface.name: interface for interface in bridge.interfaces}
    for interface in bridge.interfaces:
        if interface.iface_id is not None:
            by_id[interface.iface_id].append(interface)
    interfaces: dict[str, InterfaceView] = {}
    errors: dict[str, str] = {}
    claimed: dict[str, list[str]] = defaultdict(list)  # ids of ports, by the name of the interface
    for covered in ports:
        port = covered.port
        candidates = by_id.get(port.id, [])
        if not candidates and port.binding is not None and port.binding.device in by_name:
            named = by_name[port.binding.device]
            candidates = [named] if named.iface_id is None else []
        problem = _problem(bridge.name, port.id, candidates)
        if port.mac_address is None:
            problem = "the port has no MAC address"
        if problem is not None:
            errors[port.id] = f"{problem}; nothing passes it"
        else:
            interfaces[port.id] = candidates[0]
        for interface in candidates:
            claimed[interface.name].append(port.id)
    for name, ids in claimed.items():
        if len(ids) > 1:
            for id_ in ids:
                interfaces.pop(id_, None)
                errors[id_] = f"{len(ids)} ports are bound to interface {name}; nothing passes it"
    passing, unknown = _others(bridge, claimed, admitted=admitted, uplinks=uplinks, ours=ours)
    return Found(interfaces, errors, passing, unknown)


def _problem(bridge: str, port_id: str, candidates: list[InterfaceView]) -> str | None:
    if not candidates:
        return f"no interface of bridge {bridge} has external_ids:iface-id={port_id}"
    if len(candidates) > 1:
        names = ", ".join(interface.name for interface in candidates)
        return f"interfaces {names} of bridge {bridge} have the same external_ids:iface-id"
    interface = candidates[0]
    if interface.ofport is None:
        return f"the switch has not opened interface {interface.name}" + (
            f": {interface.error}" if interface.error else ""
        )
    if interface.bonded:
        return f"interface {interface.name} is part of a bond"
    return None


def _others(
    bridge: BridgeView,
    claimed: Mapping[str, object],
    *,
    admitted: Collection[str],
    uplinks: Collection[str],
    ours: Collection[str],
) -> tuple[tuple[AdmittedPort, ...], tuple[str, ...]]:
    passing: list[AdmittedPort] = []
    unknown: list[str] = []
    for interface in bridge.interfaces:
        if interface.name in claimed or interface.name in ours or interface.name == bridge.name:
            continue
        is_named = interface.name in uplinks or (interface.iface_id is None and interface.type == _PATCH)
        if (is_named or interface.iface_id in admitted) and not interface.bonded:
            if interface.ofport is not None:
                network = None if interface.trunk else interface.tag or 0
                passing.append(AdmittedPort(ofport=interface.ofport, network=network))
        else:
            unknown.append(interface.name)
    return tuple(passing), tuple(unknown)
