"""The flows of Neutron's own firewall, from what a real agent made of it, for the ports of a lab.

``neutron/br-int.flows`` is taken as it is: what stands there for one virtual machine and one router port is written for
each of the lab's. Refuses to know what a flow does, but for those that let new connections in.
"""

import re
from pathlib import Path

from portward.lab import Lab, LabPort

COOKIE = 0x7A731C752E98B8EF
_LISTED = [
    line
    for line in (Path(__file__).parent / "neutron" / "br-int.flows").read_text().splitlines()
    if line and not line.startswith("#")
]
_VM = {"name": "tapaa904b79-1f", "ofport": 3, "vlan": 1, "mac": "fa:16:3e:b3:11:7f", "v4": "10.10.1.159"}
_ROUTER = {"name": "qr-a30947d1-3b", "ofport": 4, "vlan": 1}
_LINK_LOCAL = "fe80::f816:3eff:feb3:117f"
#: What names a port: its device, number, or MAC.
_OF_A_PORT = re.compile(r'"(tap|qr)|reg5=|dl_dst=')


def flows(lab: Lab, *, tcp_in: int | None = None) -> list[str]:
    """All flows. ``tcp_in``: security groups let in new TCP connections to this port alone, and nothing else new."""
    found = [line for line in _LISTED if not _OF_A_PORT.search(line)]
    numbers = _numbers(lab)
    for port in lab.state.vm_ports:
        for line in (line for line in _LISTED if _is_of(line, _VM)):
            found += _narrowed(_of_vm(line, port, numbers[port.device]), tcp_in)
    for port in lab.state.plugged_ports:
        found += [_renumbered(line, _ROUTER, port, numbers[port.device]) for line in _LISTED if _is_of(line, _ROUTER)]
    return found


def load(lab: Lab, lines: list[str]) -> None:
    """Add ``lines`` to the bridge."""
    path = lab.switch.run_dir / "neutron.flows"
    path.write_text("\n".join(line.replace(" actions=", ",actions=") for line in lines) + "\n")
    lab.switch.ofctl("add-flows", lab.switch.bridge, str(path))


def clean_up(lab: Lab, lines: list[str]) -> None:
    """What the firewall does when it starts: every flow of its tables that is not its own goes, its own are added."""
    for table in (60, 71, 72, 73, 81, 82, 91, 92, 93, 94):
        for cookie in _strange_cookies(lab, table):
            lab.switch.ofctl("del-flows", lab.switch.bridge, f"table={table},cookie={cookie}/-1")
    load(lab, lines)


def own(lab: Lab) -> set[str]:
    """The flows of Neutron's cookie that stand, without what they counted."""
    listed = lab.switch.ofctl("--no-stats", "dump-flows", lab.switch.bridge, f"cookie={COOKIE:#x}/-1")
    return {line.strip() for line in listed.splitlines() if "cookie=" in line}


def _strange_cookies(lab: Lab, table: int) -> set[str]:
    listed = lab.switch.ofctl("dump-flows", lab.switch.bridge, f"table={table}")
    return set(re.findall(r"cookie=(0x[0-9a-f]+)", listed)) - {f"{COOKIE:#x}"}


def _is_of(line: str, port: dict[str, object]) -> bool:
    number = f"{port['ofport']:#x}"
    named = f'"{port["name"]}"' in line or f"reg5={number}" in line.replace(" ", ",").split(",")
    return named or f"dl_dst={port.get('mac')}" in line or f"set_field:{number}->reg5" in line


def _of_vm(line: str, port: LabPort, ofport: int) -> list[str]:
    line = _renumbered(line, _VM, port, ofport).replace(str(_VM["mac"]), port.mac)
    own = [address for address in port.fixed_ips if address.version == 4]
    written = [line.replace(str(_VM["v4"]), str(address)) for address in own[:1]]
    if _LINK_LOCAL not in line:
        return written
    return [line.replace(_LINK_LOCAL, str(it)) for it in (_link_local(port.mac), *port.fixed_ips) if ":" in str(it)]


def _renumbered(line: str, old: dict[str, object], port: LabPort, ofport: int) -> str:
    vlan, number = old["vlan"], f"{old['ofport']:#x}"
    line = line.replace(f'"{old["name"]}"', f'"{port.device}"')
    line = line.replace(f"reg5={number}", f"reg5={ofport:#x}").replace(f"{number}->reg5", f"{ofport:#x}->reg5")
    line = line.replace(f"reg6={vlan:#x}", f"reg6={port.vlan:#x}").replace(f"{vlan:#x}->reg6", f"{port.vlan:#x}->reg6")
    return line.replace(f"dl_vlan={vlan},", f"dl_vlan={port.vlan},").replace(
        f"ct_zone={vlan},", f"ct_zone={port.vlan},"
    )


def _narrowed(lines: list[str], tcp_in: int | None) -> list[str]:
    if tcp_in is None:
        return lines
    found = []
    for line in lines:
        if "table=82, priority=74" in line:
            kind = ",ipv6," if ",ipv6," in line else ",ip,"
            line = line.replace(kind, {",ipv6,": ",tcp6,", ",ip,": ",tcp,"}[kind]).replace(
                " actions", f",tp_dst={tcp_in} actions"
            )
        found.append(line)
    return found


def _numbers(lab: Lab) -> dict[str, int]:
    """The port numbers of the bridge's devices, asked for at once: a process for each port costs more than the rest."""
    listed = lab.switch.vsctl("--format=csv", "--no-headings", "--columns=name,ofport", "list", "interface")
    rows = (line.split(",") for line in listed.split())
    return {name.strip('"'): int(number) for name, number in rows}


def _link_local(mac: str) -> str:
    octets = bytes.fromhex(mac.replace(":", ""))
    words = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return "fe80::" + ":".join(f"{words[at]:02x}{words[at + 1]:02x}".lstrip("0") or "0" for at in range(0, 8, 2))
