"""What a lab consists of, and the file that remembers it, so that another process can take the lab down.

One file a lab, ``/run/portward-lab/<name>.json``, readable by root alone and gone with a reboot, as the
namespaces are. Nothing is kept that could be asked of the kernel instead.
"""

import os
import re
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import msgspec

from portward.lab.errors import LabError, LabExists, NoSuchLab
from portward.model import Address, AddressPair, Binding, InvalidValue, IPVersion, Port, PortKind, port_kind

DIRECTORY = Path("/run/portward-lab")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")

ROUTER_INTERFACE = "network:router_interface"
ROUTER_GATEWAY = "network:router_gateway"
VM = "compute:nova"


class LabPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of the lab, with all that the API needs to register it: an interface of its router, or of a VM's."""

    port_id: str
    name: str  # of the network it serves
    device: str
    netns: str
    network_id: str
    router_id: str
    mac: str
    fixed_ips: tuple[Address, ...]
    device_owner: str
    vlan: int = 0  # on the switch, if it is there
    address_pairs: tuple[str, ...] = ()  # further prefixes that a VM sends from

    def to_model(self) -> Port:
        """The port as a host's state names it.

        Raises:
            LabError: it is the gateway, which no firewall group can hold.
        """
        kind = port_kind(self.device_owner)
        if kind is None:
            raise LabError(f"{self.device} is a {self.device_owner} port: no firewall group can hold it")
        return Port(
            id=self.port_id,
            kind=kind,
            binding=Binding(netns=self.netns, device=self.device) if kind is PortKind.ROUTER else None,
            mac_address=self.mac,
            fixed_ips=self.fixed_ips,
            allowed_address_pairs=tuple(AddressPair(prefix=ip_network(prefix)) for prefix in self.address_pairs),
        )


class LabHost(msgspec.Struct, frozen=True, kw_only=True):
    """The host of one network: a namespace with one device and several addresses."""

    name: str
    netns: str
    device: str
    mac: str
    addresses: tuple[Address, ...]

    def address(self, version: IPVersion) -> Address:
        """Its first address of IP ``version``: what it sends from unless told otherwise."""
        return next(address for address in self.addresses if address.version == version)


class FloatingIP(msgspec.Struct, frozen=True):
    """An address of the outside that the router translates to and from one of a tenant network's host."""

    outside: IPv4Address
    fixed: IPv4Address


class Process(msgspec.Struct, frozen=True):
    """A process of the lab; ``started`` (clock ticks since boot) tells it from a later one with the same id."""

    pid: int
    started: int


class LabSwitch(msgspec.Struct, frozen=True):
    """The switch between the tenant networks' hosts, which are virtual machines then, and the router."""

    netns: str
    run_dir: str


class LabState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole lab. ``hosts`` and ``ports`` are in one order: the tenant networks, then the outside."""

    name: str
    router_id: str
    router_netns: str
    ports: tuple[LabPort, ...]
    hosts: tuple[LabHost, ...]
    floating_ips: tuple[FloatingIP, ...] = ()
    processes: tuple[Process, ...] = ()
    switch: LabSwitch | None = None
    vm_ports: tuple[LabPort, ...] = ()  # on the switch: those of the tenant networks' hosts
    plugged_ports: tuple[LabPort, ...] = ()  # on the switch: the router's ends

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Every namespace of the lab."""
        switch = () if self.switch is None else (self.switch.netns,)
        return (self.router_netns, *(host.netns for host in self.hosts), *switch)


def check_name(name: str) -> str:
    """``name``, when a lab can be called so: it becomes part of namespace and file names.

    Raises:
        InvalidValue: it is anything but 1 to 20 of ``a-z 0-9 -``, not beginning with a dash.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValue(f"{name[:64]!r} is no lab name: 1 to 20 of a-z 0-9 -, no leading dash")
    return name


def names() -> list[str]:
    """The labs that are up."""
    return sorted(path.stem for path in DIRECTORY.glob("*.json"))


def claim(state: LabState) -> None:
    """Write the file of a lab that is about to be made.

    Raises:
        LabExists: there is one.
    """
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    try:
        descriptor = os.open(_file(state.name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise LabExists(f"lab {state.name} is up; `portward lab down {state.name}` removes it") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(_encode(state))


def save(state: LabState) -> None:
    """Replace the file of a lab that is up."""
    path = _file(state.name)
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(_encode(state))
    new.replace(path)


def load(name: str) -> LabState:
    """What lab ``name`` consists of.

    Raises:
        NoSuchLab: it is not up.
        LabError: its file is damaged.
    """
    try:
        return msgspec.json.decode(_file(check_name(name)).read_bytes(), type=LabState, dec_hook=decode_hook)
    except FileNotFoundError as error:
        up = ", ".join(names()) or "none"
        raise NoSuchLab(f"no lab {name} is up (up: {up}); `portward lab up {name}` makes it") from error
    except msgspec.MsgspecError as error:
        raise LabError(
            f"{_file(name)} is damaged ({error}); remove it, and the namespaces pw-{name}-* by hand"
        ) from error


def forget(name: str) -> None:
    """Remove the file of lab ``name``, if there is one."""
    _file(name).unlink(missing_ok=True)


def _file(name: str) -> Path:
    return DIRECTORY / f"{name}.json"


def _encode(state: LabState) -> bytes:
    return msgspec.json.format(msgspec.json.encode(state, enc_hook=str))


def decode_hook(kind: type, value: str) -> Address:
    """How the addresses of the lab's messages are read (msgspec's ``dec_hook``)."""
    return IPv4Address(value) if kind is IPv4Address else ip_address(value)
