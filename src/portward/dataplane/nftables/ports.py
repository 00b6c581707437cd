"""What becomes of the ports of one namespace: by which lists their devices are decided, and what is wrong with each."""

import structlog

from portward.dataplane.addresses import AddressSets
from portward.dataplane.lists import ListKey, Part, Policies, RuleList, deny_all, rule_list
from portward.dataplane.nftables.foreign import ELSEWHERE
from portward.dataplane.nftables.namespace import RouterNamespace
from portward.dataplane.nftables.wanted import DeviceLists, Wanted
from portward.dataplane.protocol import DataplaneError
from portward.model import CoveredPort, Direction, InvalidValue, PortKind, PortwardError

_log = structlog.get_logger(__name__)


class DeviceConflict(DataplaneError):
    """Ports claim the same device: nobody can say which of them is right."""


def unsuitable(covered: CoveredPort) -> str | None:
    """Why this driver cannot enforce the port, if it cannot."""
    if not covered.groups:
        return None
    if covered.port.kind is PortKind.VM:
        return "ports of virtual machines are not enforced on this host"
    if covered.port.kind is PortKind.DISTRIBUTED_ROUTER:
        return "interfaces of distributed routers are not enforced on this host"
    if covered.port.binding is None:
        return "the port has no device: its binding names none"
    return None


def enforce(
    namespace: RouterNamespace, ports: list[CoveredPort], policies: Policies, sets: AddressSets
) -> dict[str, str | None]:
    """Make the namespace enforce its ports; says port by port what is wrong."""
    where = "the agent's own namespace" if namespace.name is None else f"namespace {namespace.name}"
    claims: dict[str, list[CoveredPort]] = {}
    for port in ports:
        if port.port.binding is not None:
            claims.setdefault(port.port.binding.device, []).append(port)
    wrong: dict[str, str] = {}
    devices: dict[str, DeviceLists] = {}
    lists: dict[ListKey, tuple[Part, ...]] = {}
    named = frozenset[str]()
    for device, claimants in claims.items():
        try:
            egress, ingress = _lists_of(claimants, policies)
        except (DeviceConflict, InvalidValue) as error:
            wrong[device] = f"{error}; all traffic of device {device} in {where} is denied"
            egress = ingress = deny_all()
        devices[device] = DeviceLists(egress.key, ingress.key)
        lists |= {egress.key: egress.parts, ingress.key: ingress.parts}
        named |= egress.sets | ingress.sets
    try:
        namespace.apply(Wanted(devices, lists, sets.of(sorted(named))))
        for device in claims.keys() - wrong.keys():
            has_master = namespace.links().get(device)
            if has_master is None:
                wrong[device] = f"device {device} is not in {where}"
            elif has_master:
                wrong[device] = f"device {device} in {where} is part of a bridge or bond: bind the port to that device"
        if namespace.mark_writers:
            reason = f"{where}: {namespace.mark_writers[0]}, Portward's among them: {ELSEWHERE}"
            wrong = dict.fromkeys(claims, reason) | wrong
    except (PortwardError, OSError) as error:
        wrong = dict.fromkeys(claims, str(error))
    except MemoryError:
        wrong = dict.fromkeys(claims, f"no memory is left for the rules of {where}")
    except Exception:
        _log.exception("namespace_failed", namespace=namespace.name)
        wrong = dict.fromkeys(claims, "internal error of the dataplane; the agent's log has it")
    return {port.port.id: wrong.get(device) for device, claimants in claims.items() for port in claimants}


def _lists_of(claimants: list[CoveredPort], policies: Policies) -> tuple[RuleList, RuleList]:
    """By which lists a device is decided, egress and ingress.

    Raises:
        DeviceConflict: several ports claim it.
        InvalidValue: its port cannot be enforced as asked.
    """
    if len(claimants) > 1:
        raise DeviceConflict(f"{len(claimants)} ports are bound to the same device")
    egress, ingress = (rule_list(claimants[0], way, policies) for way in (Direction.EGRESS, Direction.INGRESS))
    return egress, ingress
