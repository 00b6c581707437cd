"""What one host must enforce, and what it says it does.

``HostState`` is the whole truth for a host: what is not in it is not enforced there. ``Report`` is the answer.
"""

import msgspec

from portward.model.errors import InvalidValue
from portward.model.port import Direction, Group, Port
from portward.model.rule import AddressSet, Policy


class CoveredPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port and the groups that decide for it, in the order in which they do (design, 2.3)."""

    port: Port
    groups: tuple[Group, ...] = ()


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a host enforces at ``generation``.

    ``admitted`` are ids of ports of the network itself (DHCP, routers): a switch lets them pass unfiltered.

    Raises:
        InvalidValue: a group names a policy, or a rule an address set, that is not there; nothing may be enforced from
            half a state.
    """

    generation: int
    ports: tuple[CoveredPort, ...] = ()
    policies: tuple[Policy, ...] = ()
    sets: tuple[AddressSet, ...] = ()
    admitted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {policy.id for policy in self.policies}
        for covered in self.ports:
            for group in covered.groups:
                for direction in Direction:
                    needed = group.policy_id(direction)
                    if needed is not None and needed not in known:
                        raise InvalidValue(f"port {covered.port.id}: policy {needed} is not part of the state")
        sets = {set_.id for set_ in self.sets}
        for policy in self.policies:
            for rule in policy.rules:
                for set_id in (rule.source_set, rule.destination_set):
                    if set_id is not None and set_id not in sets:
                        raise InvalidValue(f"rule {rule.id}: address set {set_id} is not part of the state")


class PortReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the port is enforced as asked; ``error`` says why not, for its owner to read."""

    port_id: str
    error: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a host did with the state of ``generation``, port by port."""

    generation: int
    ports: tuple[PortReport, ...] = ()
