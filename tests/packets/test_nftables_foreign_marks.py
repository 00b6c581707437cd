"""Rules of others that write our bits of connection marks: the ports say so, and are well again when these are gone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from packets.builders import Guard, state_of
from packets.enforcer import Enforcer
from packets.nftables_router import enforcing, epoch, marks, nft, udp
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.foreign import mark_writers_beside_us
from portward.lab import Lab, Outcome
from portward.model import HostState

CONNMARK = "iptables-nft -t mangle -A FORWARD -j CONNMARK"
#: Commands of others in a router's namespace, and the bits that they write.
WRITERS = {
    "ct mark set 5": 0xFFFFFFFF,
    "ct mark set ct mark and 0xffff0000 or 1": 0xFFFF,
    "ct mark set ct mark or 0x1": 0x1,
    "ct mark set ct mark xor 0x8000": 0x8000,
    "ct mark set ct mark << 4": 0xFFFFFFFF,
    "ct mark set meta mark": 0xFFFFFFFF,
    "ct mark set meta mark and 0xffff0000": 0xFFFFFFFF,
    "ct mark set ip saddr map { 10.0.0.1 : 0x10000 }": 0xFFFFFFFF,
    "ct mark and 0xffff0000 == 0 ct mark set ct mark or 0xabcd0001": 0xABCD0001,
    f"{CONNMARK} --set-mark 5": 0xFFFFFFFF,
    f"{CONNMARK} --or-mark 0x3": 0x3,
    f"{CONNMARK} --save-mark": 0xFFFFFFFF,
    f"{CONNMARK} --save-mark --nfmask 0xff --ctmask 0xff00": 0xFFFF,
}
#: Commands of others that leave ours alone, and the bits that they write.
BESIDE = {
    "ct mark set ct mark and 0xffff or 0x10000": 0xFFFF0000,
    "ct mark set ct mark or 0xabcd0000": 0xABCD0000,
    "ct mark and 0xffff == 1 counter": 0,
    "meta mark set ct mark": 0,
    f"{CONNMARK} --restore-mark": 0,
    f"{CONNMARK} --set-xmark 0x10000/0xffff0000": 0xFFFF0000,
    # As Neutron does for address scopes.
    f"{CONNMARK} --save-mark --nfmask 0xffff0000 --ctmask 0xffff0000": 0xFFFF0000,
    "iptables-nft -t mangle -A FORWARD -j MARK --set-mark 1": 0,
}


def add(lab: Lab, command: str) -> None:
    """Add a rule to a table of somebody else: of nft, or by a command of iptables."""
    if not command.startswith("iptables"):
        run(lab, "nft add table inet theirs")
        run(lab, "nft add chain inet theirs c { type filter hook prerouting priority 0; }")
        command = f"nft add rule inet theirs c {command}"
    run(lab, command)


def run(lab: Lab, command: str) -> None:
    subprocess.run(["ip", "netns", "exec", lab.router_netns, *command.split()], check=True, capture_output=True)


def errors(dataplane: NftablesDataplane, state: HostState) -> set[str | None]:
    return {port.error for port in dataplane.apply(state).ports}


@pytest.mark.parametrize("command", WRITERS)
def test_a_rule_that_writes_our_bits_puts_the_namespaces_ports_in_error_until_it_is_gone(
    lab: Lab, enforce: Enforcer, command: str
) -> None:
    state = enforce(blue=Guard(ingress=udp(5001)), red=Guard(egress=udp(5001)))
    add(lab, command)
    (error,) = errors(enforce.dataplane, state)
    assert error is not None
    assert f"writes bits {WRITERS[command]:#x} of connection marks" in error
    assert f"namespace {lab.router_netns}: table " in error
    assert "ct_mark_mask" in error
    assert errors(enforce.dataplane, state) == {error}
    nft(lab.router_netns, f"delete table {'ip mangle' if 'iptables' in command else 'inet theirs'}")
    assert errors(enforce.dataplane, state) == {None}


@pytest.mark.parametrize("command", BESIDE)
def test_a_rule_that_keeps_our_bits_is_none_of_our_business(lab: Lab, enforce: Enforcer, command: str) -> None:
    guards = {"blue": Guard(ingress=udp(5001))}
    enforce(**guards)
    add(lab, command)
    enforce(**guards)
    assert mark_writers_beside_us(0xFFFF, own_namespace=False) == {}
    writers = mark_writers_beside_us(0xFFFFFFFF, own_namespace=False).get(lab.router_netns, [])
    assert sum(writer.bits for writer in writers) == BESIDE[command]


def test_an_agent_that_starts_sees_what_was_there_before_it(lab: Lab) -> None:
    add(lab, "ct mark set ct mark or 0x10")
    guards = {"blue": Guard(ingress=udp(5001))}
    with enforcing(lab) as enforce:
        state = state_of(lab.ports, guards, enforce.state)
        (error,) = errors(enforce.dataplane, state)
        assert error is not None
        assert "writes bits 0x10 " in error
        assert lab.red.probe("udp", lab.blue.address(), 5002).outcome is Outcome.SILENT
    with enforcing(lab, ct_mark_mask=0xF) as enforce:
        enforce(**guards)


def test_what_others_wrote_into_our_bits_is_cleared_when_their_rule_is_gone(lab: Lab, enforce: Enforcer) -> None:
    """It wrote the number of the epoch in force, so the connection passed; no packet may follow that one."""
    state = enforce(blue=Guard(ingress=udp(5001)))
    add(lab, f"udp dport 5002 ct mark set {epoch(lab.router_netns)}")
    with lab.red.connect("udp", lab.blue.address(), 5002) as ridden:
        assert ridden.exchange()
        assert None not in errors(enforce.dataplane, state)
        nft(lab.router_netns, "flush chain inet theirs c")
        assert marks(lab.router_netns)[5002] == {epoch(lab.router_netns)}
        assert errors(enforce.dataplane, state) == {None}
        assert not ridden.exchange(0.2)


def test_doctor_shows_them_where_our_table_is_and_nowhere_else(lab: Lab, tmp_path: Path) -> None:
    add(lab, "ct mark set ct mark or 0x10")
    assert marks_of_doctor(tmp_path) == (True, "only Portward writes bits 0xffff")
    with enforcing(lab) as enforce:
        enforce.dataplane.apply(state_of(lab.ports, {"blue": Guard()}, enforce.state))
    handle = mark_writers_beside_us(0xFFFF, own_namespace=False)[lab.router_netns][0].handle
    rule = f"table inet theirs, chain c, rule with handle {handle} writes bits 0x10 of connection marks"
    assert marks_of_doctor(tmp_path) == (False, f"namespace {lab.router_netns}: {rule}")
    nft(lab.router_netns, f"delete rule inet theirs c handle {handle}")
    assert marks_of_doctor(tmp_path)[0]


def marks_of_doctor(directory: Path) -> tuple[bool, str]:
    """What ``portward doctor`` finds about connection marks, and whether that is well."""
    done = subprocess.run(
        [sys.executable, "-m", "portward", "doctor", "--only", "agent", "--format", "json"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    (finding,) = (item for item in json.loads(done.stdout) if item["what"] == "connection marks")
    return finding["ok"], finding["found"]
