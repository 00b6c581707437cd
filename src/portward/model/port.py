"""Ports, where a host realises them, and the firewall groups that cover them.

Names that will be written into nft text or a switch's database are validated here, once, for everybody.
"""

import re
from enum import StrEnum

import msgspec

from portward.model.errors import InvalidValue
from portward.model.ids import check_id
from portward.model.rule import Address, Prefix

_DEVICE = re.compile(r"(?!\.)[A-Za-z0-9_.@-]{1,15}")
_NAMESPACE = re.compile(r"(?!\.)[A-Za-z0-9_.@-]{1,64}")


class Direction(StrEnum):
    """Seen from the network or VM that the port serves.

    VM port: ingress is to the VM. Router port: ingress leaves the router through the interface, egress enters
    the router by it.
    """

    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def opposite(self) -> "Direction":
        """The direction of the replies."""
        return Direction.EGRESS if self is Direction.INGRESS else Direction.INGRESS


class Stratum(StrEnum):
    """Whose groups decide first; in the order of this class."""

    ADMIN = "admin"
    TENANT = "tenant"
    BASELINE = "baseline"


class PortKind(StrEnum):
    """What a port is to the firewall; everything that is none of these cannot be in a group."""

    VM = "vm"
    ROUTER = "router"
    DISTRIBUTED_ROUTER = "distributed_router"  # accepted, ERROR until a driver realises it


def port_kind(device_owner: str) -> PortKind | None:
    """Kind of the port that has this Neutron ``device_owner``; ``None``: no firewall group may hold it."""
    if device_owner.startswith(("compute:", "baremetal:")) or device_owner == "trunk:subport":
        return PortKind.VM
    if device_owner in ("network:router_interface", "network:ha_router_replicated_interface"):
        return PortKind.ROUTER
    if device_owner == "network:router_interface_distributed":
        return PortKind.DISTRIBUTED_ROUTER
    return None


def check_device_name(value: str) -> str:
    """``value``, when Linux could name a network device so and no text that we build can be broken by it.

    Raises:
        InvalidValue: it is anything but 1 to 15 of ``A-Z a-z 0-9 _ . @ -``, not beginning with a dot.
    """
    if not _DEVICE.fullmatch(value):
        raise InvalidValue(f"{value[:64]!r} is no device name: 1 to 15 of A-Z a-z 0-9 _ . @ -, no leading dot")
    return value


def check_namespace_name(value: str) -> str:
    """``value``, when it names an entry of ``/run/netns`` and nothing outside it.

    Raises:
        InvalidValue: it is anything but 1 to 64 of ``A-Z a-z 0-9 _ . @ -``, not beginning with a dot.
    """
    if not _NAMESPACE.fullmatch(value):
        raise InvalidValue(f"{value[:64]!r} is no namespace name: 1 to 64 of A-Z a-z 0-9 _ . @ -, no leading dot")
    return value


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """The device that realises a router port: ``device`` in network namespace ``netns``.

    ``netns`` ``None`` is the namespace that the agent runs in; it refuses that unless its configuration
    allows it.

    Raises:
        InvalidValue: a name that Linux would not take or that could break out of the text it is put into.
    """

    netns: str | None
    device: str

    def __post_init__(self) -> None:
        check_device_name(self.device)
        if self.netns is not None:
            check_namespace_name(self.netns)


class AddressPair(msgspec.Struct, frozen=True, kw_only=True):
    """One more source that a VM port may send from; ``mac`` ``None`` is the port's own."""

    prefix: Prefix
    mac: str | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A firewall group, as far as it decides packets. A direction without a policy has no rules."""

    id: str
    stratum: Stratum = Stratum.TENANT
    position: int = 0  # order among the groups of one stratum, lowest first
    admin_state_up: bool = True
    ingress_policy_id: str | None = None
    egress_policy_id: str | None = None

    def policy_id(self, direction: Direction) -> str | None:
        """Id of the policy that it applies to packets in ``direction``."""
        return self.ingress_policy_id if direction is Direction.INGRESS else self.egress_policy_id


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A port that groups may cover. ``binding`` is ``None`` when the host finds the device by the port's id.

    Raises:
        InvalidValue: an id that is no UUID.
    """

    id: str
    kind: PortKind
    binding: Binding | None = None
    mac_address: str | None = None  # lower case, colons
    fixed_ips: tuple[Address, ...] = ()
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    port_security_enabled: bool = True

    def __post_init__(self) -> None:
        check_id(self.id)
