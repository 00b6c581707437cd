"""From a plan to namespaces, links, addresses, and one process that answers for all hosts.

A veth pair is made inside one namespace with its other end already in another: neither is ever in the namespace that
Portward runs in. Neighbours are entered by hand, so that no packet waits, or is lost, for ARP.
"""

import subprocess
from pathlib import Path

from portward.lab import responder
from portward.lab.errors import LabError, LabExists
from portward.lab.namespaces import add_namespace, ip, nft, python, sysctl
from portward.lab.plan import prefixes_of
from portward.lab.processes import identify
from portward.lab.state import LabHost, LabPort, LabState, Process
from portward.lab.switch import without_offload

#: Addresses can be used at once, every ICMP error is sent that should be, and TCP sends again only what was lost
#: (tail loss probes repeat what the other side has but has not acknowledged yet).
_EVERYWHERE = {
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv4/icmp_ratelimit": "0",
    "ipv4/icmp_ratemask": "0",
    "ipv6/icmp/ratelimit": "0",
    "ipv4/tcp_early_retrans": "0",
    "ipv4/ping_group_range": "0 2147483647",
}
#: The router forwards, and leaves forged sources to the firewall.
_ROUTER = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
}


def check_free(state: LabState) -> None:
    """Refuse to touch namespaces that are there already.

    Raises:
        LabExists: one has a name that this lab needs.
    """
    taken = [netns for netns in state.namespaces if (Path("/run/netns") / netns).exists()]
    if taken:
        raise LabExists(f"namespace {taken[0]} is there and belongs to no lab that is up; choose another name")


def build(state: LabState) -> None:
    """Make everything of the lab but its process.

    Raises:
        LabError: something could not be made; what was made so far stays, for ``destroy``.
    """
    for netns in state.namespaces:
        add_namespace(netns)
        sysctl(netns, _EVERYWHERE)
    sysctl(state.router_netns, _ROUTER)
    ip(state.router_netns, ["link set lo up"])
    nft(state.router_netns, _ROUTER_TABLE)
    for port, host in zip(state.ports, state.hosts, strict=True):
        vm = next((vm for vm in state.vm_ports if vm.name == port.name), None)
        plugged = next((plugged for plugged in state.plugged_ports if plugged.name == port.name), None)
        _link(port.netns, port.device, port.mac, *_end(plugged, host.netns, host.device, host.mac))
        if vm is not None:
            _link(host.netns, host.device, host.mac, vm.netns, vm.device, "")
        _address(port, host)
        nft(host.netns, _HOST_TABLE)
    for device in (*state.vm_ports, *state.plugged_ports):
        without_offload(device.netns, device.device)
    if state.switch is not None:
        for host, port in zip(state.hosts[:-1], state.ports[:-1], strict=True):
            without_offload(host.netns, host.device)
            without_offload(port.netns, port.device)


def _end(plugged: LabPort | None, *host: str) -> tuple[str, str, str]:
    """Where the other end of a router's link is: its namespace, device and MAC."""
    netns, device, mac = host if plugged is None else (plugged.netns, plugged.device, "")
    return netns, device, mac


def _link(netns: str, device: str, mac: str, other_netns: str, other: str, other_mac: str) -> None:
    """A pair of devices, up; a MAC of no text is left to the kernel. An end on the switch says nothing of itself."""
    address = f"address {other_mac} " if other_mac else ""
    ip(
        netns,
        [
            f"link add name {device} address {mac} type veth peer name {other} {address}netns {other_netns}",
            f"link set {device} up",
        ],
    )
    if not other_mac:
        sysctl(other_netns, {f"ipv6/conf/{other}/disable_ipv6": "1"})
    ip(other_netns, [f"link set {other} up"])


def start_responder(state: LabState) -> tuple[subprocess.Popen[str], Process]:
    """Start what answers for the hosts, and wait until it does.

    Raises:
        LabError: it ended instead.
    """
    command = python(responder.__name__, *(host.netns for host in state.hosts))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd="/",
    )
    assert child.stdout is not None
    with child.stdout as said:
        if said.readline() != responder.READY:
            reason = said.read().strip().rpartition("\n")[2]
            raise LabError(f"what answers for the lab's hosts ended with {child.wait()}: {reason}")
    return child, identify(child.pid)


def _address(port: LabPort, host: LabHost) -> None:
    router_side: list[str] = []
    host_side = ["link set lo up"]
    for prefix, gateway in zip(prefixes_of(host.name), port.fixed_ips, strict=True):
        nodad, everything = ("nodad", "::/0") if prefix.version == 6 else ("", "0.0.0.0/0")
        router_side.append(f"address add {gateway}/{prefix.prefixlen} dev {port.device} {nodad}")
        for address in (address for address in host.addresses if address.version == prefix.version):
            router_side.append(f"neighbour add {address} lladdr {host.mac} dev {port.device} nud permanent")
            host_side.append(f"address add {address}/{prefix.prefixlen} dev {host.device} {nodad}")
        host_side.append(f"neighbour add {gateway} lladdr {port.mac} dev {host.device} nud permanent")
        host_side.append(f"route add {everything} via {gateway} dev {host.device}")
    ip(port.netns, router_side)
    ip(host.netns, host_side)


#: Connections are tracked from the start, as in Neutron's routers, where address translation sees to it.
_ROUTER_TABLE = """
table inet lab {
  chain track {
    type filter hook forward priority filter - 10; policy accept;
    ct state invalid accept
  }
}
"""
_HOST_TABLE = f"""
table inet lab {{
  set closed {{ type inet_proto . inet_service; }}
  chain answer {{
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto != {{ 6, 17 }} accept
    meta l4proto . th dport @closed accept
    fib daddr type != local accept
    socket wildcard {{ 0, 1 }} accept
    meta nfproto ipv4 meta l4proto {{ 6, 17 }} tproxy ip to :{responder.PORT}
    meta nfproto ipv6 meta l4proto {{ 6, 17 }} tproxy ip6 to :{responder.PORT}
  }}
}}
"""
