"""The rows ``router.member_to_packet`` and ``vm.member_to_packet``: from a PUT of ``add_addresses`` to the first packet
that the new member decides.

The address group is large, and fifty policies on a hundred ports use it. API and agent are two processes, as for
``rule_to_packet``; the flow comes from an address that is no member until then.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.row import Row, Skipped, figures
from benchmarks.way import Probe, make, router_ports, vm_ports
from demo.processes import Portward
from portward.lab import Lab

#: By key: whether the ports are those of virtual machines on a switch.
_KEYS = {"router.member_to_packet": False, "vm.member_to_packet": True}
_SIZES = (100, 10_000)
_POLICIES, _EDITS, _PORT = 50, 60, 20_000


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows that are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: the caller is not root.
    """
    keys = [key for key in _KEYS if wanted(key)]
    if keys and os.geteuid() != 0:
        raise Skipped("routers, switches and packets need root")
    for key in keys:
        for members in _SIZES:
            tell(f"{key} members={members}")
            yield Row(
                key=key,
                unit="ms",
                params={"members": members, "policies": _POLICIES, "ports": 100},
                portward=figures(_measured(members, switch=_KEYS[key]), tail=True),
            )


def _measured(members: int, *, switch: bool) -> list[float]:
    with TemporaryDirectory(prefix="pw-bench-") as directory, Lab.create("bench", switch=switch) as lab:
        portward = Portward(Path(directory), switch=lab.switch if switch else None)
        with portward.config.open("a") as config:
            config.write("[quotas]\nfirewall_rule = -1\nfirewall_policy = -1\nfirewall_group = -1\n")
        try:
            portward.start_api()
            portward.start_agent()
            path = _protected(portward, lab, members)
            return [_edit(portward, lab, path) for _ in range(_EDITS)]
        finally:
            portward.stop()
            if switch:
                portward.cleanup_agent()


def _edit(portward: Portward, lab: Lab, path: str) -> float:
    """Milliseconds from the PUT to the packet."""
    body = {"addresses": [f"{lab.red.address()}/32"]}
    with Probe(lab, _PORT) as probe:
        began = time.perf_counter()
        portward.ask("PUT", f"{path}/add_addresses", body)
        taken = (probe.arrived() - began) * 1000
    portward.ask("PUT", f"{path}/remove_addresses", body)
    portward.wait_until_realised()
    return taken


def _protected(portward: Portward, lab: Lab, members: int) -> str:
    """The path of an address group of so many ``members`` that all ports' policies use."""
    ports = router_ports(portward, lab) if lab.state.switch is None else vm_ports(portward, lab)
    crowd = [f"10.{128 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32" for number in range(members)]
    (group,) = make(portward, "address_group", [{"addresses": crowd}])
    listed = make(portward, "firewall_rule", [_rule(group)] * _POLICIES)
    (everything,) = make(portward, "firewall_rule", [{"action": "allow"}])
    policies = make(portward, "firewall_policy", [{"firewall_rules": [rule]} for rule in listed])
    (out,) = make(portward, "firewall_policy", [{"firewall_rules": [everything]}])
    share = len(ports) // _POLICIES
    groups: list[dict[str, Any]] = [
        {
            "ports": ports[number * share : (number + 1) * share],
            "ingress_firewall_policy_id": policy,
            "egress_firewall_policy_id": out,
        }
        for number, policy in enumerate(policies)
    ]
    make(portward, "firewall_group", groups)
    portward.wait_until_realised()
    return f"/v2.0/address-groups/{group}"


def _rule(group: str) -> dict[str, Any]:
    return {"protocol": "udp", "source_address_group_id": group, "action": "allow"}
