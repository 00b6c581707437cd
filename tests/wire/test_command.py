"""The ``portward`` command as a person or a script runs it: what it prints, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.processes import Portward

Run = Callable[..., "subprocess.CompletedProcess[str]"]
WITHOUT_PRIVILEGE = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture(scope="module")
def portward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portward]:
    portward = Portward(tmp_path_factory.mktemp("portward"))
    try:
        portward.start_api()
        yield portward
    finally:
        portward.stop()


@pytest.fixture
def run(portward: Portward) -> Run:
    """Runs the command with the API's configuration."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTWARD_")}

    def run(*arguments: str, prefix: tuple[str, ...] = (), **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [*prefix, sys.executable, "-m", "portward", "--config", str(portward.config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment | variables, check=False)

    return run


def test_a_port_is_registered_listed_shown_and_removed(run: Run) -> None:
    made = json.loads(run("port", "add", "lan", "--device", "eth1", "--fixed-ip", "10.0.0.1", "-f", "json").stdout)
    listed = json.loads(run("port", "list", "--format", "json").stdout)
    assert [port["id"] for port in listed if port["name"] == "lan"] == [made["id"]]
    assert json.loads(run("port", "show", "lan", "--format", "json").stdout)["addresses"] == ["10.0.0.1"]
    assert run("port", "remove", made["id"]).returncode == 0
    assert "lan" not in run("port", "list").stdout


def test_who_decides_for_a_port_is_shown_in_order(portward: Portward, run: Run) -> None:
    made = json.loads(run("port", "add", "both", "--device", "eth9", "-f", "json").stdout)
    rule = {"name": "web", "protocol": "tcp", "destination_port": "80", "action": "allow"}
    rule_id = portward.ask("POST", "/v2.0/fwaas/firewall_rules", {"firewall_rule": rule})["firewall_rule"]["id"]
    policy = {"firewall_policy": {"firewall_rules": [rule_id]}}
    policy_id = portward.ask("POST", "/v2.0/fwaas/firewall_policies", policy)["firewall_policy"]["id"]
    common = {"ports": [made["id"]], "ingress_firewall_policy_id": policy_id}
    for group in ({"name": "mine"}, {"name": "[admin]s", "stratum": "admin", "position": 3}):
        portward.ask("POST", "/v2.0/fwaas/firewall_groups", {"firewall_group": common | group})
    shown = json.loads(run("port", "show", "both", "--format", "json").stdout)
    assert [(group["stratum"], group["name"]) for group in shown["groups"]] == [
        ("admin", "[admin]s"),
        ("tenant", "mine"),
    ]
    assert [one["id"] for one in shown["groups"][0]["ingress_rules"]] == [rule_id]
    lines = [line.split() for line in run("port", "show", "both").stdout.splitlines()]
    traffic = ["IPv4", "tcp", "from", "anywhere", "to", "anywhere", "port", "80"]
    assert [line[:2] + line[3:] for line in lines if "web" in line] == [
        [*group, "ingress", "web", "allow", *traffic] for group in (["admin", "[admin]s"], ["tenant", "mine"])
    ]
    assert "[admin]s" in run("port", "list").stdout


def test_sets_of_addresses_in_the_rules_of_a_port_are_shown_by_name(portward: Portward, run: Run) -> None:
    made = json.loads(run("port", "add", "fenced", "--device", "eth8", "-f", "json").stdout)
    group = {"address_group": {"name": "scanners", "addresses": ["192.0.2.0/24"]}}
    address_group = portward.ask("POST", "/v2.0/address-groups", group)["address_group"]["id"]
    web = portward.ask("POST", "/v2.0/fwaas/firewall_groups", {"firewall_group": {"name": "web"}})["firewall_group"]
    unnamed = portward.ask("POST", "/v2.0/fwaas/firewall_groups", {"firewall_group": {}})["firewall_group"]
    rules = [
        {"source_address_group_id": address_group, "destination_port": "22", "protocol": "tcp"},
        {"source_firewall_group_id": web["id"], "destination_firewall_group_id": unnamed["id"]},
    ]
    paths = "/v2.0/fwaas/firewall_rules"
    ids = [portward.ask("POST", paths, {"firewall_rule": rule})["firewall_rule"]["id"] for rule in rules]
    policy = {"firewall_policy": {"firewall_rules": ids}}
    policy_id = portward.ask("POST", "/v2.0/fwaas/firewall_policies", policy)["firewall_policy"]["id"]
    fence = {"ports": [made["id"]], "ingress_firewall_policy_id": policy_id}
    portward.ask("POST", "/v2.0/fwaas/firewall_groups", {"firewall_group": fence})
    shown = run("port", "show", "fenced").stdout
    assert "IPv4 tcp from address group scanners to anywhere port 22" in shown
    assert f"IPv4 any from firewall group web to firewall group {unnamed['id']}" in shown


def test_the_rules_of_a_policy_are_shown_with_what_they_counted(portward: Portward, run: Run) -> None:
    rule = portward.ask("POST", "/v2.0/fwaas/firewall_rules", {"firewall_rule": {"name": "[red]", "action": "allow"}})
    rule_id = rule["firewall_rule"]["id"]
    policy = {"firewall_policy": {"name": "counted", "firewall_rules": [rule_id]}}
    portward.ask("POST", "/v2.0/fwaas/firewall_policies", policy)
    (shown,) = json.loads(run("policy", "counters", "counted", "--format", "json").stdout)
    counts = {"packets": 0, "bytes": 0, "last": None, "since": None}
    assert shown == {"rule_id": rule_id, "rule_name": "[red]", "action": "allow", **counts}
    head, line = run("policy", "counters", "counted").stdout.splitlines()
    assert head.split() == ["rule", "action", "packets", "bytes", "last", "since"]
    assert line.split() == ["[red]", "allow", "0", "0", "-", "-"]


@pytest.mark.parametrize("name", ["[/]", "[red]", "a[b", "esc\x1b]0;pwned\x07x"])
def test_a_name_is_shown_as_it_is_and_cannot_speak_to_the_terminal(run: Run, name: str) -> None:
    assert run("port", "add", name, "--device", "eth1").returncode == 0
    listed = run("port", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert name.replace("\x1b", "\\x1b").replace("\x07", "\\x07") in listed.stdout
    assert run("port", "remove", name).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("port", "show", "nobody"), 1, "no port 'nobody'"),
        (("policy", "counters", "[/]"), 1, "no policy '[/]'"),
        (("port", "show", "[/]"), 1, "no port '[/]'"),
        (("port", "add", "bad", "--device", 'eth0"; flush ruleset'), 2, "no device name"),
        (("port", "add", "bad", "--device", "e", "--netns", "../../proc/1/ns/net"), 2, "no namespace name"),
        (("port", "add", "bad", "--device", "eth0", "--fixed-ip", "10.0.0.256"), 2, "10.0.0.256"),
        (("host", "revoke", "[/]"), 1, "[/] is not registered"),
        (("host", "add", "no/name"), 1, "no host name"),
        (("host", "add", "demo"), 1, "has a token"),
        (("explain", "nobody", "ingress", "--source", "10.0.0.1", "--destination", "10.0.0.2"), 1, "no port"),
        (("explain", "nobody", "sideways", "--source", "10.0.0.1", "--destination", "10.0.0.2"), 2, "sideways"),
        (("doctor", "--only", "nonsense"), 2, "nonsense"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_a_refusal_is_a_sentence_and_an_exit_status(
    run: Run, arguments: tuple[str, ...], status: int, says: str
) -> None:
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_argument_that_is_no_text_is_refused(run: Run) -> None:
    done = run("port", "show", os.fsdecode(b"\xff"))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_no_api_is_said_with_what_to_do(run: Run) -> None:
    done = run("port", "list", PORTWARD_API__LISTEN="127.0.0.1:1")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "portward run" in done.stderr


def test_a_bad_configuration_ends_with_2(run: Run) -> None:
    done = run("port", "list", PORTWARD_API__LITSEN="x")
    assert done.returncode == 2
    assert "PORTWARD_API__LITSEN" in done.stderr


def test_an_api_with_a_policy_file_that_cannot_be_used_never_listens(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"create_frewall_rule": "role:member"\n')
    done = run("api", PORTWARD_AUTH__POLICY_FILE=str(file), PORTWARD_API__LISTEN="127.0.0.1:0")
    assert done.returncode == 2
    assert "create_frewall_rule" in done.stderr
    assert "listening" not in done.stderr


def test_a_policy_file_that_is_named_and_missing_keeps_the_api_from_starting(run: Run) -> None:
    done = run("api", PORTWARD_AUTH__POLICY_FILE="/nowhere/policy.yaml", PORTWARD_API__LISTEN="127.0.0.1:0")
    assert done.returncode == 2
    assert "/nowhere/policy.yaml is missing" in done.stderr


def test_who_is_no_user_cannot_be_removed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.touch(mode=0o600)
    done = run("user", "remove", "nobody", PORTWARD_AUTH__USERS_FILE=str(file))
    assert (done.returncode, "no user 'nobody'" in done.stderr) == (1, True)


def test_it_is_told_which_database_was_found(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    assert url in run("db", "upgrade", PORTWARD_DATABASE__URL=url).stderr
    assert url in run("doctor", "--only", "api", PORTWARD_DATABASE__URL=url).stdout


@pytest.mark.parametrize(
    ("url", "found", "remedy"),
    [
        ("sqlite:////nowhere/portward.db", "is not there yet", "portward db upgrade"),
        ("nonsense", "no URL of a database", "correct [database] url"),
        ("postgresql://portward:s3cret@127.0.0.1:1/portward", "Connection refused", "start or restore the database"),
        ("mariadb://portward:s3cret@127.0.0.1:1/portward", "Connection refused", "start or restore the database"),
    ],
)
def test_doctor_says_of_each_fault_of_the_database_what_helps(run: Run, url: str, found: str, remedy: str) -> None:
    done = run("doctor", "--only", "api", "--format", "json", PORTWARD_DATABASE__URL=url)
    finding = next(item for item in json.loads(done.stdout) if item["what"] == "database")
    assert (done.returncode, finding["ok"]) == (1, False)
    assert found in finding["found"]
    assert remedy in finding["remedy"]
    assert "s3cret" not in done.stdout


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"PORTWARD_API__LISTEN": "0.0.0.0:9696"}, "every caller an admin"),
        ({"PORTWARD_AUTH__MODE": "http_basic", "PORTWARD_AUTH__USERS_FILE": "/nowhere/users"}, "portward user add"),
        ({"PORTWARD_AUTH__MODE": "keystone"}, "auth_url"),
        ({"PORTWARD_API__TLS_CERT": "/nowhere/crt", "PORTWARD_API__TLS_KEY": "/nowhere/key"}, "/nowhere/crt"),
    ],
)
def test_doctor_says_what_would_keep_the_api_from_starting(run: Run, variables: dict[str, str], found: str) -> None:
    done = run("doctor", "--only", "api", "--format", "json", **variables)
    missing = [item["found"] for item in json.loads(done.stdout) if not item["ok"]]
    assert done.returncode == 1
    assert len(missing) == 1
    assert found in missing[0]


def test_an_api_without_authentication_refuses_to_listen_for_the_network(run: Run) -> None:
    done = run("api", PORTWARD_API__LISTEN="0.0.0.0:0")
    assert done.returncode == 2
    assert "every caller an admin" in done.stderr


@pytest.mark.parametrize("command", [("agent",), ("run",), ("agent", "cleanup", "--yes")])
def test_what_enforces_refuses_to_start_without_privilege(run: Run, command: tuple[str, ...]) -> None:
    done = run(*command, prefix=WITHOUT_PRIVILEGE if os.geteuid() == 0 else ())
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr


def test_explain_names_the_rule_that_decides_and_why_those_before_it_did_not(run: Run, portward: Portward) -> None:
    port = json.loads(run("port", "add", "wan", "--device", "eth2", "-f", "json").stdout)["id"]
    rules = [
        portward.ask("POST", "/v2.0/fwaas/firewall_rules", {"firewall_rule": rule})["firewall_rule"]["id"]
        for rule in (
            {"name": "web", "protocol": "tcp", "destination_port": "443", "action": "allow"},
            {"name": "dns", "protocol": "udp", "destination_port": "53", "action": "reject"},
        )
    ]
    policy = portward.ask("POST", "/v2.0/fwaas/firewall_policies", {"firewall_policy": {"firewall_rules": rules}})
    group = {"ports": [port], "ingress_firewall_policy_id": policy["firewall_policy"]["id"]}
    portward.ask("POST", "/v2.0/fwaas/firewall_groups", {"firewall_group": group})
    packet = ("--protocol", "udp", "--source", "10.0.0.1", "--destination", "10.0.0.2", "--destination-port", "53")
    told = run("explain", "wan", "ingress", *packet)
    assert told.stdout.startswith("reject: rule 'dns'")
    assert [word for word in ("web", "protocol", "tcp", "udp") if word not in told.stdout] == []
    answer = json.loads(run("explain", "wan", "ingress", *packet, "--format", "json").stdout)
    assert (answer["rule_id"], answer["passed_over"][0]["field"]) == (rules[1], "protocol")


def test_a_second_run_leaves_the_first_ones_token_alone(run: Run, portward: Portward) -> None:
    before = run("host", "list", "--format", "json").stdout
    done = run("run", PORTWARD_AGENT__STATE_DIR=str(Path(portward.directory) / "second"))
    assert done.returncode != 0
    assert run("host", "list", "--format", "json").stdout == before


def test_doctor_tries_the_agents_way_to_the_api(run: Run, portward: Portward) -> None:
    def found(token: str) -> dict[str, object]:
        variables = {"PORTWARD_AGENT__TOKEN": token, "PORTWARD_AGENT__API": portward.agents_url}
        findings = json.loads(run("doctor", "--only", "agent", "--format", "json", **variables).stdout)
        return next(item for item in findings if item["what"].startswith("the API at"))

    assert found(portward.token)["ok"] is True
    wrong = found("nonsense")
    assert (wrong["ok"], "refuses the token" in str(wrong["found"])) == (False, True)
