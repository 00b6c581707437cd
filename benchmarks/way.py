"""The row ``router.rule_to_packet``: from a PUT of ``insert_rule`` to the first packet that the rule decides.

API and agent are two processes with HTTP between them; a hundred ports share the policy. The rule allows a flow that
is sent all the time and denied until then, so the first packet that arrives was decided by it.
"""

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from benchmarks.api import DATABASES
from benchmarks.row import Row, Skipped, figures, recorded
from demo.processes import HOST, Portward
from portward.dataplane.netns import in_namespace
from portward.lab import Lab

_KEY = "router.rule_to_packet"
_PORTS = 100
_SIZES = (10, 100, 1000)
_EDITS = 100
_FIRST = 20_000
_INTERVAL = 0.0005  # seconds between two packets of the flow
_PEER = recorded(118, 953, source="neutron-fwaas 25, 10 rules and 1 port to 50 ports, recorded")


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the row if it is ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: the caller is not root.
    """
    if not wanted(_KEY):
        return
    if os.geteuid() != 0:
        raise Skipped("routers and packets need root")
    for database, server in DATABASES:
        for n in _SIZES:
            tell(f"{_KEY} on {database} n={n}")
            with TemporaryDirectory(prefix="pw-bench-") as directory, server() as url, Lab.create("bench") as lab:
                portward = Portward(Path(directory), url)
                with portward.config.open("a") as config:
                    config.write("[quotas]\nfirewall_rule = -1\n")
                try:
                    taken = _edits(portward, lab, n)
                finally:
                    portward.stop()
            yield Row(
                key=_KEY,
                unit="ms",
                params={"database": database, "n": n, "ports": _PORTS},
                portward=figures(taken, tail=True),
                peers={"neutron-fwaas": _PEER},
            )


def _edits(portward: Portward, lab: Lab, n: int) -> list[float]:
    portward.start_api()
    portward.start_agent()
    policy, listed = _protected(portward, lab, n)
    body = [
        {"protocol": "udp", "destination_port": str(_FIRST + number), "action": "allow"} for number in range(_EDITS)
    ]
    rules = _make(portward, "firewall_rule", body)
    chance, taken = random.Random(n), []
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
    """The id of a policy of ``n`` rules that all of a router's ports share, and those of its rules."""
    extra = [f"port{number}" for number in range(_PORTS - len(lab.ports))]
    made = "".join(f"link add {device} type ifb\n" for device in extra)
    subprocess.run(["ip", "-n", lab.router_netns, "-batch", "-"], input=made, text=True, check=True)
    devices = [port.device for port in lab.ports.values()] + extra
    ports = _make(
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
    rules = [
        {
            "protocol": "udp",
            "action": ("allow", "allow", "deny")[number % 3],
            "source_ip_address": f"172.16.{number >> 8}.{number & 255}",
            "destination_port": str(1024 + number),
        }
        for number in range(n)
    ]
    listed = _make(portward, "firewall_rule", rules)
    policy = _make(portward, "firewall_policy", [{"firewall_rules": listed}])[0]
    group = {"ports": ports, "ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
    _make(portward, "firewall_group", [group])
    portward.wait_until_realised()
    return policy, listed


def _make(portward: Portward, kind: str, wanted: list[dict[str, Any]]) -> list[str]:
    """The ids of new objects."""
    plural = {"port": "ports", "firewall_policy": "firewall_policies"}.get(kind, f"{kind}s")
    path = "/v2.0/ports" if kind == "port" else f"/v2.0/fwaas/{plural}"
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
