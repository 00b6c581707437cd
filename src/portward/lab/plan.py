"""Which namespaces, devices and addresses a lab has. Pure: nothing is made here.

Tenant network *n* is 10.n.0.0/24 and fd00:n::/64, the outside 203.0.113.0/24 and 2001:db8::/64. The router is
the first address of each; each host has four addresses of each family, three neighbours and one far away in
the network, so that a prefix and a single address can be told apart.
"""

import uuid
from ipaddress import IPv4Network, IPv6Network

import msgspec

from portward.lab.errors import LabError
from portward.lab.state import (
    DIRECTORY,
    ROUTER_GATEWAY,
    ROUTER_INTERFACE,
    VM,
    LabHost,
    LabPort,
    LabState,
    LabSwitch,
    check_name,
)
from portward.model import Prefix

TENANT_NETWORKS = ("red", "blue", "green")
OUTSIDE = "outside"
ROUTER_ADDRESS = 1
HOST_ADDRESSES = (10, 11, 12, 200)


def plan(name: str, networks: int = 2, *, switch: bool = False) -> LabState:
    """A new lab called ``name`` with ``networks`` tenant networks (2 or 3) and the outside.

    ``switch``: the hosts of tenant networks are virtual machines on a switch, which the router is joined to.

    Raises:
        InvalidValue: a name that no lab can have.
        LabError: a number of networks that it cannot have.
    """
    check_name(name)
    if networks not in (2, 3):
        raise LabError(f"{networks} tenant networks: a lab has 2 ({', '.join(TENANT_NETWORKS[:2])}) or 3 (and green)")
    router_id = str(uuid.uuid4())
    router_netns = f"qrouter-{router_id}"
    ports, hosts = [], []
    for network in (*TENANT_NETWORKS[:networks], OUTSIDE):
        port_id = str(uuid.uuid4())
        gateway = network == OUTSIDE
        prefixes = prefixes_of(network)
        ports.append(
            LabPort(
                port_id=port_id,
                name=network,
                device=f"{'qg' if gateway else 'qr'}-{port_id[:11]}",
                netns=router_netns,
                network_id=str(uuid.uuid4()),
                router_id=router_id,
                mac=_mac(),
                fixed_ips=tuple(prefix[ROUTER_ADDRESS] for prefix in prefixes),
                device_owner=ROUTER_GATEWAY if gateway else ROUTER_INTERFACE,
            )
        )
        hosts.append(
            LabHost(
                name=network,
                netns=f"pw-{name}-{network}",
                device="eth0",
                mac=_mac(),
                addresses=tuple(prefix[number] for prefix in prefixes for number in HOST_ADDRESSES),
            )
        )
    state = LabState(name=name, router_id=router_id, router_netns=router_netns, ports=tuple(ports), hosts=tuple(hosts))
    return _switched(state) if switch else state


def _switched(state: LabState) -> LabState:
    """``state`` with a switch, a VLAN a tenant network."""
    netns = f"pw-{state.name}-switch"
    vms, plugged = [], []
    for number, (port, host) in enumerate(zip(state.ports[:-1], state.hosts[:-1], strict=True), 1):
        vm_id = str(uuid.uuid4())
        vm = LabPort(
            port_id=vm_id,
            name=host.name,
            device=f"tap{vm_id[:11]}",
            netns=netns,
            network_id=port.network_id,
            router_id="",
            mac=host.mac,
            fixed_ips=host.addresses,
            device_owner=VM,
            vlan=number,
        )
        vms.append(vm)
        plugged.append(msgspec.structs.replace(port, device=f"rt-{port.port_id[:11]}", netns=netns, vlan=number))
    return msgspec.structs.replace(
        state,
        switch=LabSwitch(netns=netns, run_dir=str(DIRECTORY / f"{state.name}.switch")),
        vm_ports=tuple(vms),
        plugged_ports=tuple(plugged),
    )


def prefixes_of(network: str) -> tuple[Prefix, Prefix]:
    """The IPv4 and the IPv6 prefix of a network of every lab, by its name."""
    if network == OUTSIDE:
        return IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8::/64")
    number = TENANT_NETWORKS.index(network) + 1
    return IPv4Network(f"10.{number}.0.0/24"), IPv6Network(f"fd00:{number}::/64")


def _mac() -> str:
    """A random MAC address of the range that Neutron takes its own from."""
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in uuid.uuid4().bytes[:3])
