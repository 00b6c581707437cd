"""Auth mode http_basic, from the command that makes users to the answers that they get."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from portward.api.identity.http_basic import CHALLENGE
from portward.config import Auth, ConfigurationError
from wire.conftest import running, settings

Run = Callable[..., "subprocess.CompletedProcess[str]"]
RULES = "/v2.0/fwaas/firewall_rules"


def command(directory: Path, *arguments: str, stdin: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PORTWARD_")}
    variables = {f"PORTWARD_{name}": value for name, value in variables.items()}
    environment = kept | {"PORTWARD_AUTH__USERS_FILE": str(directory / "users")} | variables
    program = [sys.executable, "-m", "portward", *arguments]
    return subprocess.run(program, input=stdin, text=True, capture_output=True, env=environment, check=False)


def add(directory: Path, name: str, project: str, *roles: str) -> "subprocess.CompletedProcess[str]":
    options = [word for role in roles for word in ("--role", role)]
    line = f"{name}'s secret\n"
    return command(directory, "user", "add", name, "--project", project, *options, "--password-stdin", stdin=line)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("basic")
    for name, project, role in (("root", "admin", "admin"), ("mary", "p1", "member"), ("rita", "p1", "reader")):
        assert add(made, name, project, role).returncode == 0
    return made


@pytest.fixture(scope="module")
def url(directory: Path) -> Iterator[str]:
    auth = Auth(mode="http_basic", users_file=directory / "users")
    with running(settings(directory).model_copy(update={"auth": auth})) as url:
        yield url


def ask(url: str, method: str, path: str, user: str | None = None, **arguments: object) -> httpx2.Response:
    auth = None if user is None else (user, f"{user}'s secret")
    with httpx2.Client(base_url=url, auth=auth, trust_env=False, timeout=20) as http:
        return http.request(method, path, **arguments)  # type: ignore[arg-type]


def test_what_a_user_makes_is_of_the_users_project(url: str) -> None:
    made = ask(url, "POST", RULES, "mary", json={"firewall_rule": {}})
    assert (made.status_code, made.json()["firewall_rule"]["project_id"]) == (201, "p1")


def test_an_admin_sees_what_a_member_made(url: str) -> None:
    made = ask(url, "POST", RULES, "mary", json={"firewall_rule": {"name": "mary's"}}).json()["firewall_rule"]
    assert made["id"] in [rule["id"] for rule in ask(url, "GET", RULES, "root").json()["firewall_rules"]]


@pytest.mark.parametrize("headers", [{}, {"X-Auth-Token": "some"}, {"Authorization": "Basic bWFyeTpndWVzcw=="}])
def test_who_shows_no_right_password_gets_the_answer_that_clients_know(url: str, headers: dict[str, str]) -> None:
    answer = ask(url, "GET", RULES, headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, CHALLENGE)
    message = "The request you have made requires authentication."
    assert answer.json() == {"error": {"code": 401, "title": "Unauthorized", "message": message}}
    assert answer.headers["X-Openstack-Request-Id"].startswith("req-")


def test_headers_that_keystone_would_set_mean_nothing(url: str) -> None:
    forged = {"X-Roles": "admin", "X-Project-Id": "p2", "X-Identity-Status": "Confirmed"}
    assert ask(url, "GET", RULES, headers=forged).status_code == 401
    made = ask(url, "POST", RULES, "mary", json={"firewall_rule": {}}, headers=forged)
    assert made.json()["firewall_rule"]["project_id"] == "p1"


def test_versions_are_told_to_anybody(url: str) -> None:
    assert [ask(url, "GET", path).status_code for path in ("/", "/v2.0")] == [200, 200]


def test_a_running_api_knows_a_user_who_is_added_changed_and_removed(url: str, directory: Path) -> None:
    assert add(directory, "nina", "p2", "member").returncode == 0
    assert ask(url, "GET", RULES, "nina").status_code == 200
    assert command(directory, "user", "set-password", "nina", "--password-stdin", stdin="other\n").returncode == 0
    assert ask(url, "GET", RULES, "nina").status_code == 401
    assert command(directory, "user", "remove", "nina").returncode == 0
    listed = json.loads(command(directory, "user", "list", "--format", "json").stdout)
    assert [user["name"] for user in listed] == ["root", "mary", "rita"]


def test_no_password_is_in_the_file_or_in_what_the_command_says(directory: Path) -> None:
    said = command(directory, "user", "list")
    assert "secret" not in (directory / "users").read_text() + said.stdout + said.stderr
    assert "$2b$" not in said.stdout


def test_a_user_is_not_added_twice_nor_without_a_password_nor_with_one_too_long(directory: Path) -> None:
    before = (directory / "users").read_text()
    assert "there is a user 'mary'" in add(directory, "mary", "p1", "member").stderr
    new = ("user", "add", "new", "--project", "p1", "--role", "member")
    assert "--password-stdin" in command(directory, *new).stderr
    assert "72 bytes" in command(directory, *new, "--password-stdin", stdin="x" * 73).stderr
    assert "no project id" in add(directory, "new", "p:1", "member").stderr
    assert (directory / "users").read_text() == before


def test_without_a_users_file_the_api_does_not_start(tmp_path: Path) -> None:
    auth = Auth(mode="http_basic", users_file=tmp_path / "absent")
    chosen = settings(tmp_path).model_copy(update={"auth": auth})
    with pytest.raises(ConfigurationError, match="portward user add"), running(chosen):
        pass


def test_the_command_is_a_client_like_any_other(url: str, directory: Path) -> None:
    user = {"CLIENT__URL": url, "CLIENT__USERNAME": "root", "CLIENT__PASSWORD": "root's secret"}
    done = command(directory, "port", "add", "lan", "--device", "eth1", **user)
    assert done.returncode == 0, done.stderr


def test_a_member_is_shown_who_decides_for_a_port_and_not_what_is_an_admins(url: str, directory: Path) -> None:
    port = {"name": "mine", "project_id": "p1", "device_owner": "network:router_interface", "device_id": "r"}
    port_id = ask(url, "POST", "/v2.0/ports", "root", json={"port": port}).json()["port"]["id"]
    for stratum, shared in (("admin", False), ("baseline", True)):
        group = {"name": f"root's {stratum}", "stratum": stratum, "shared": shared, "ports": [port_id]}
        assert ask(url, "POST", "/v2.0/fwaas/firewall_groups", "root", json={"firewall_group": group}).is_success
    user = {"CLIENT__URL": url, "CLIENT__USERNAME": "mary", "CLIENT__PASSWORD": "mary's secret"}
    shown = command(directory, "port", "show", "mine", **user)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["admin", "admin", "-", "-", "not", "for", "you", "to", "see", "-", "-"] in lines
    assert ["baseline", "root's", "baseline", "ACTIVE", "ingress", "no", "rules", "-", "-"] in lines
    assert "root's admin" not in shown.stdout
    assert command(directory, "port", "list", **user).returncode == 0


def test_the_command_says_what_to_do_about_a_refusal(url: str, directory: Path) -> None:
    nobody = command(directory, "port", "list", CLIENT__URL=url)
    assert (nobody.returncode, "PORTWARD_CLIENT__USERNAME" in nobody.stderr) == (1, True)
    user = {"CLIENT__URL": url, "CLIENT__USERNAME": "rita", "CLIENT__PASSWORD": "rita's secret"}
    reader = command(directory, "port", "add", "wan", "--device", "eth2", **user)
    assert (reader.returncode, "another role" in reader.stderr) == (1, True)


def test_the_command_reaches_a_unix_socket_where_the_api_listens(directory: Path, tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/api.sock"
    chosen = settings(tmp_path)
    with running(chosen.model_copy(update={"api": chosen.api.model_copy(update={"listen": listen})})):
        done = command(directory, "port", "add", "lan", "--device", "eth1", API__LISTEN=listen)
    assert done.returncode == 0, done.stderr
