"""The whole way, from an HTTP call to a real packet, with the API and the agent as processes of their own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.processes import HOST, Portward, ProcessError
from portward.lab import Lab, Outcome

FWAAS = "/v2.0/fwaas"
PASSED, SILENT = Outcome.PASSED, Outcome.SILENT


@pytest.fixture
def portward(tmp_path: Path) -> Iterator[Portward]:
    """API and agent, running; both end with the test."""
    portward = Portward(tmp_path)
    try:
        portward.start_api()
        portward.start_agent()
        yield portward
    finally:
        portward.stop()


def add_port(portward: Portward, lab: Lab, network: str, *, device: str | None = None) -> str:
    """Register the router's port to ``network``; its id."""
    port = lab.port(network)
    binding = ("--netns", port.netns, "--device", device or port.device, "--host", HOST)
    made: dict[str, str] = portward.command("port", "add", network, *binding, "--format", "json")
    return made["id"]


def make(portward: Portward, kind: str, **attributes: object) -> str:
    """Create a rule, policy or group; its id."""
    made = portward.ask("POST", f"{FWAAS}/firewall_{kind}", {_single(kind): attributes})
    return str(made[_single(kind)]["id"])


def change(portward: Portward, kind: str, id_: str, **attributes: object) -> None:
    portward.ask("PUT", f"{FWAAS}/firewall_{kind}/{id_}", {_single(kind): attributes})


def _single(kind: str) -> str:
    return {"rules": "firewall_rule", "policies": "firewall_policy", "groups": "firewall_group"}[kind]


def guard(portward: Portward, *ports: str, allow: int) -> tuple[str, str, str]:
    """A group on ``ports`` whose ingress policy allows TCP port ``allow``, realised: ids of rule, policy, group."""
    rule = make(portward, "rules", protocol="tcp", destination_port=allow, action="allow")
    policy = make(portward, "policies", name="in", firewall_rules=[rule])
    group = make(portward, "groups", name="guard", ports=list(ports), ingress_firewall_policy_id=policy)
    portward.wait_until_realised()
    return rule, policy, group


def tcp(lab: Lab, port: int) -> Outcome:
    """What becomes of a connection attempt from red to blue."""
    return lab.red.probe("tcp", lab.blue.address(), port).outcome


def comes_true(condition: Callable[[], bool], portward: Portward) -> bool:
    """Whether ``condition`` holds within 20 seconds while both processes run."""
    try:
        portward.wait("agent", "makes the condition true", condition, 20)
    except ProcessError:
        return False
    return True


def status(portward: Portward, group: str) -> str:
    return str(portward.ask("GET", f"{FWAAS}/firewall_groups/{group}")["firewall_group"]["status"])


def test_the_demo_agrees_on_every_line() -> None:
    told = subprocess.run([sys.executable, "-m", "demo"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "lines agree" in told.stdout


def test_a_call_to_the_api_is_obeyed_by_the_next_packet_once_it_is_realised(portward: Portward, lab: Lab) -> None:
    blue = add_port(portward, lab, "blue")
    assert tcp(lab, 80) is PASSED
    rule, _, _ = guard(portward, blue, allow=22)
    assert (tcp(lab, 22), tcp(lab, 80)) == (PASSED, SILENT)
    change(portward, "rules", rule, destination_port="80")
    portward.wait_until_realised()
    assert (tcp(lab, 22), tcp(lab, 80)) == (SILENT, PASSED)


def test_what_a_rule_decided_is_told_by_the_command_over_a_reorder_and_the_death_of_both(
    portward: Portward, lab: Lab
) -> None:
    rule, policy, _ = guard(portward, add_port(portward, lab, "blue"), allow=22)
    deny = make(portward, "rules", protocol="tcp", action="deny", name="the rest")

    def counted() -> dict[str, int]:
        return {one["rule_id"]: one["packets"] for one in portward.command("policy", "counters", "in", "-f", "json")}

    change(portward, "policies", policy, firewall_rules=[rule, deny])
    portward.wait_until_realised()
    assert [tcp(lab, 22) for _ in range(3)] == [PASSED] * 3
    change(portward, "policies", policy, firewall_rules=[deny, rule])
    portward.wait_until_realised()
    assert tcp(lab, 22) is SILENT
    portward.kill("agent")
    portward.kill("api")
    portward.start_api()
    portward.restart_agent()
    assert comes_true(lambda: counted() == {rule: 3, deny: 1}, portward)


def test_a_group_that_is_down_denies_everything_and_up_again_it_does_not(portward: Portward, lab: Lab) -> None:
    _, _, group = guard(portward, add_port(portward, lab, "blue"), allow=22)
    change(portward, "groups", group, admin_state_up=False)
    portward.wait_until_realised()
    assert (status(portward, group), tcp(lab, 22)) == ("DOWN", SILENT)
    change(portward, "groups", group, admin_state_up=True)
    portward.wait_until_realised()
    assert (status(portward, group), tcp(lab, 22)) == ("ACTIVE", PASSED)


def test_a_port_deleted_while_bound_is_filtered_no_more_and_its_group_is_inactive(portward: Portward, lab: Lab) -> None:
    blue = add_port(portward, lab, "blue")
    _, _, group = guard(portward, blue, allow=22)
    portward.command("port", "remove", "blue")
    assert comes_true(lambda: tcp(lab, 80) is PASSED, portward)
    assert status(portward, group) == "INACTIVE"


def test_a_damaged_database_is_refused_with_a_reason_and_opens_nothing(portward: Portward, lab: Lab) -> None:
    guard(portward, add_port(portward, lab, "blue"), allow=22)
    portward.kill("api")
    for file in portward.directory.glob("portward.db*"):
        file.write_bytes(b"this is no database" * 1000)
    with pytest.raises(ProcessError, match=r"cannot be used.*restore a backup"):
        portward.start_api()
    assert (tcp(lab, 22), tcp(lab, 80)) == (PASSED, SILENT)


def test_a_revoked_token_opens_nothing(portward: Portward, lab: Lab) -> None:
    rule, _, group = guard(portward, add_port(portward, lab, "blue"), allow=22)
    portward.command("host", "revoke", HOST)
    change(portward, "rules", rule, destination_port="80")
    assert comes_true(lambda: b"refuses the token" in portward.log("agent").read_bytes(), portward)
    assert (tcp(lab, 22), tcp(lab, 80)) == (PASSED, SILENT)
    assert status(portward, group) == "PENDING_UPDATE"


def test_a_port_whose_device_is_missing_says_so_and_the_rest_of_the_host_is_enforced(
    portward: Portward, lab: Lab
) -> None:
    guard(portward, add_port(portward, lab, "blue"), allow=22)
    red = add_port(portward, lab, "red", device="qr-missing")
    group = make(portward, "groups", name="other", ports=[red])
    assert comes_true(lambda: status(portward, group) == "ERROR", portward)
    realisation = portward.ask("GET", f"{FWAAS}/firewall_groups/{group}/realisation")["realisation"]
    assert "device qr-missing is not in" in realisation["ports"][0]["error"]
    assert (tcp(lab, 22), tcp(lab, 80)) == (PASSED, SILENT)


def test_cleanup_says_what_is_open_and_leaves_no_trace(portward: Portward, lab: Lab) -> None:
    guard(portward, add_port(portward, lab, "blue"), allow=22)
    portward.kill("agent")
    assert lab.router_netns in portward.cleanup_agent()
    assert tcp(lab, 80) is PASSED
    listed = ["ip", "netns", "exec", lab.router_netns, "nft", "list", "tables"]
    tables = subprocess.run(listed, capture_output=True, text=True, check=True)
    assert "portward" not in tables.stdout


def test_a_cleanup_that_fails_says_so_and_forgets_nothing(portward: Portward, lab: Lab) -> None:
    guard(portward, add_port(portward, lab, "blue"), allow=22)
    portward.kill("agent")
    kept = (portward.directory / "agent" / "state.json").read_bytes()
    with pytest.raises(ProcessError, match="CAP_NET_ADMIN"):
        portward.cleanup_agent(prefix=("setpriv", "--bounding-set=-net_admin"))
    assert (portward.directory / "agent" / "state.json").read_bytes() == kept
    assert tcp(lab, 80) is SILENT
