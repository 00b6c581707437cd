"""The rows ``router.rule_to_packet`` and ``vm.rule_to_packet``: from a PUT of ``insert_rule`` to the first packet that
the rule decides.

API and agent are two processes with HTTP between them; a hundred ports share the policy. The rule allows a flow that
is sent all the time and denied until then, so the first packet that arrives was decided by it.
"""

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from benchmarks.api import DATABASES
from benchmarks.cached import cached_flows
from benchmarks.row import Row, Skipped, figures, recorded
from demo.processes import HOST, Portward
from portward.dataplane.netns import in_namespace
from portward.lab import Lab

#: By key: whether the ports are those of virtual machines on a switch.
_KEYS = {"router.rule_to_packet": False, "vm.rule_to_packet": True}
_PORTS = 100
_SIZES = (10, 100, 1000)
_EDITS = 100
#: Flows that a switch has in its cache, in a row of its own.
_CACHED = 20_000
_FIRST = 20_000
_INTERVAL = 0.0005  # seconds between two packets of the flow
_PEERS = {
    "router.rule_to_packet": recorded(118, 953, source="neutron-fwaas 25, 10 rules and 1 port to 50 ports, recorded"),
    "vm.rule_to_packet": recorded(131, 752, source="neutron-fwaas 25, recorded"),
}


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the row if it is ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: the caller is not root.
    """
    keys = [key for key in _KEYS if wanted(key)]
    if keys and os.geteuid() != 0:
        raise Skipped("routers, switches and packets need root")
    for key in keys:
        for database, server in DATABASES:
            for n, cached in [(n, 0) for n in _SIZES] + [(_SIZES[1], _CACHED)] * _KEYS[key]:
                tell(f"{key} on {database} n={n} cached={cached}")
                yield Row(
                    key=key,
                    unit="ms",
                    params={"database": database, "n": n, "ports": _PORTS} | ({"cached": cached} if cached else {}),
                    portward=figures(_measured(server, n, cached, switch=_KEYS[key]), tail=True),
                    peers={"neutron-fwaas": _PEERS[key]},
                )


def _measured(server: Callable[[], AbstractContextManager[str]], n: int, cached: int, *, switch: bool) -> list[float]:
    with (
        TemporaryDirectory(prefix="pw-bench-") as directory,
        server() as url,
        Lab.create("bench", switch=switch) as lab,
    ):
        portward = Portward(Path(directory), url, switch=lab.switch if switch else None)
        with portward.config.open("a") as config:
            config.write("[quotas]\nfirewall_rule = -1\n")
        try:
            return _edits(portward, lab, n, cached)
        finally:
            portward.stop()
            if switch:
                portward.cleanup_agent()


def _edits(portward: Portward, lab: Lab, n: int, cached: int) -> list[float]:
    portward.start_api()
    portward.start_agent()
    policy, listed = _protected(portward, lab, n)
    with cached_flows(lab, cached):
        return _inserted(portward, lab, policy, listed)


def _inserted(portward: Portward, lab: Lab, policy: str, listed: list[str]) -> list[float]:
    body = [
        {"protocol": "udp", "destination_port": str(_FIRST + number), "action": "allow"} for number in range(_EDITS)
    ]
    rules = make(portward, "firewall_rule", body)
    chance, taken = random.Random(len(listed)), []
    for number, rule in enumerate(rules):
        with Probe(lab, _FIRST + number) as probe:
            place = {"firewall_rule_id": rule, "insert_after": chance.choice(listed)}
            began = time.perf_counter()
            portward.ask("PUT", f"/v2.0/fwaas/firewall_policies/{policy}/insert_rule", place)
            taken.append((probe.arrived() - began) * 1000)
        portward.ask("PUT", f"/v2.0/fwaas/firewall_policies/{policy}/remove_rule", {"firewall_rule_id": rule})
        portward.wait_until_realised()
    return taken


def _protected(portward: Portward, lab: Lab, n: int) -> tuple[str, list[str]]:
    """The id of a policy of ``n`` rules that all ports share, and those of its rules."""
    ports = router_ports(portward, lab) if lab.state.switch is None else vm_ports(portward, lab)
    rules = [
        {
            "protocol": "udp",
            "action": ("allow", "allow", "deny")[number % 3],
            "source_ip_address": f"172.16.{number >> 8}.{number & 255}",
            "destination_port": str(1024 + number),
        }
        for number in range(n)
    ]
    listed = make(portward, "firewall_rule", rules)
    policy = make(portward, "firewall_policy", [{"firewall_rules": listed}])[0]
    group = {"ports": ports, "ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
    make(portward, "firewall_group", [group])
    portward.wait_until_realised()
    return policy, listed


def router_ports(portward: Portward, lab: Lab) -> list[str]:
    """The ids of a hundred ports of the lab's router, most of them with nobody behind."""
    extra = [f"port{number}" for number in range(_PORTS - len(lab.ports))]
    made = "".join(f"link add {device} type ifb\n" for device in extra)
    subprocess.run(["ip", "-n", lab.router_netns, "-batch", "-"], input=made, text=True, check=True)
    devices = [port.device for port in lab.ports.values()] + extra
    return make(
        portward,
        "port",
        [
            {
                "device_owner": "network:router_interface",
                "binding:host_id": HOST,
                "binding:profile": {"netns": lab.router_netns, "device": device},
            }
            for device in devices
        ],
    )


def vm_ports(portward: Portward, lab: Lab) -> list[str]:
    """The same of virtual machines: the lab's, and interfaces with nobody behind; the router's are admitted."""
    extra = [f"vm{number}" for number in range(_PORTS - len(lab.vm_ports))]
    lab.switch.vsctl(*_joined(f"add-port br-int {name} tag=99 -- set interface {name} type=internal" for name in extra))
    real = list(lab.vm_ports.values())
    macs = [port.mac for port in real] + [f"fa:16:3e:ff:00:{number:02x}" for number in range(len(extra))]
    addresses = [[str(it) for it in port.fixed_ips] for port in real] + [
        [f"10.9.0.{it + 1}"] for it in range(len(extra))
    ]
    machines = make(
        portward,
        "port",
        [
            {
                "device_owner": "compute:nova",
                "binding:host_id": HOST,
                "mac_address": mac,
                "fixed_ips": [{"ip_address": address} for address in of_port],
            }
            for mac, of_port in zip(macs, addresses, strict=True)
        ],
    )
    plugged = lab.state.plugged_ports
    routers = make(portward, "port", [{"device_owner": "network:dhcp", "binding:host_id": HOST} for _ in plugged])
    devices = [port.device for port in (*real, *plugged)] + extra
    ids = [*machines[: len(real)], *routers, *machines[len(real) :]]
    named = zip(devices, ids, strict=True)
    lab.switch.vsctl(*_joined(f"set interface {device} external_ids:iface-id={id_}" for device, id_ in named))
    return machines


def _joined(commands: Iterable[str]) -> list[str]:
    return " -- ".join(commands).split()


def make(portward: Portward, kind: str, wanted: list[dict[str, Any]]) -> list[str]:
    """The ids of new objects of ``kind``, a singular of the API."""
    plural = {"port": "ports", "firewall_policy": "firewall_policies"}.get(kind, f"{kind}s")
    paths = {"port": "/v2.0/ports", "address_group": "/v2.0/address-groups"}
    path = paths.get(kind, f"/v2.0/fwaas/{plural}")
    ids = []
    for start in range(0, len(wanted), 250):
        answer = portward.ask("POST", path, {plural: wanted[start : start + 250]})
        ids += [made["id"] for made in answer[plural]]
    return ids


class Probe:
    """A flow from red to blue's ``port``, and the time when a packet of it first arrives."""

    def __init__(self, lab: Lab, port: int) -> None:
        self._target = (str(lab.blue.address()), port)
        self._sender = in_namespace(lab.red.netns, _udp)
        self._receiver = in_namespace(lab.blue.netns, _udp)
        self._receiver.bind(self._target)
        self._receiver.settimeout(30)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def arrived(self) -> float:
        """When the first packet did, by ``time.perf_counter``.

        Raises:
            TimeoutError: none does.
        """
        self._receiver.recv(64)
        return time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sender.close()
        self._receiver.close()

    def _send(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self._sender.sendto(b"x", self._target)


def _udp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
