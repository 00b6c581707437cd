"""The ``openstack`` command without Keystone: without authentication, and with a password of the users' file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.client import OpenStackClient
from wire.authority import Authority
from wire.clients.cloud import GROUP, POLICY, RULE, Cloud, does, run_once, told
from wire.conftest import forget_everything, running, settings
from wire.contract.cloud import write_users


@pytest.fixture(params=["none", "http_basic"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A cloud that holds nothing."""
    cloud: Cloud = request.getfixturevalue(f"{request.param}_cloud")
    cloud.store.writing(forget_everything)
    return cloud


@pytest.fixture(params=["", "/v2.0"])
def member(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[OpenStackClient]:
    """The ``openstack`` command, told of an endpoint without a version and with one."""
    with OpenStackClient(cloud.variables("member", request.param)) as shell:
        yield shell


def test_a_firewall_is_built_shown_and_taken_down(cloud: Cloud, member: OpenStackClient) -> None:
    with cloud.api() as held:
        project = "portward" if not cloud.users else "p1"
        port = held.router_port(name="lan", project_id=project)["id"]
        told(member, "firewall group rule create r1 --protocol tcp --destination-port 80 --action allow")
        told(member, "firewall group policy create p1 --firewall-rule r1")
        made = told(member, "firewall group create g1 --ingress-firewall-policy p1 --port lan")
        (rule,), (policy,), (group,) = (held.index(kind) for kind in (RULE, POLICY, GROUP))
        assert (policy["firewall_rules"], group["ports"]) == ([rule["id"]], [port])
        assert (group["ingress_firewall_policy_id"], group["project_id"]) == (policy["id"], project)
        assert made["ID"] == group["id"]
        assert [row["Name"] for row in told(member, "firewall group list")] == ["g1"]
        told(member, "firewall group rule create r2")
        assert member.run("firewall group policy add rule p1 r2 --insert-after r1").startswith("Inserted")
        assert held.show(POLICY, policy["id"])["firewall_rules"][0] == rule["id"]
        does(member, "firewall group unset g1 --all-port")
        does(member, "firewall group delete g1")
        assert held.index(GROUP) == []


def test_a_project_is_taken_as_an_id_where_none_can_be_looked_up(cloud: Cloud) -> None:
    with OpenStackClient(cloud.variables("admin")) as admin, cloud.api() as held:
        made = told(admin, "firewall group rule create r1 --project p2")
        assert held.show(RULE, made["ID"])["project_id"] == "p2"


def test_a_wrong_password_is_told(http_basic_cloud: Cloud) -> None:
    variables = http_basic_cloud.variables("member") | {"OS_PASSWORD": "wrong"}
    done = run_once(variables, "firewall", "group", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert "401" in done.stderr
    assert "The request you have made requires authentication." in done.stderr


def test_the_endpoint_may_be_given_as_options(none_cloud: Cloud) -> None:
    none_cloud.store.writing(forget_everything)
    access = ("--os-auth-type", "none", "--os-endpoint", none_cloud.url)
    done = run_once({}, *access, "firewall", "group", "create", "lan", "-f", "value", "-c", "Status")
    assert (done.returncode, done.stdout) == (0, "INACTIVE\n"), done.stderr
    with none_cloud.api() as held:
        assert [group["name"] for group in held.index(GROUP)] == ["lan"]


def test_over_tls_a_password_goes_only_to_whom_the_ca_file_vouches_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    chosen = settings(tmp_path, tls_cert=cert, tls_key=key).model_copy(update={"auth": write_users(tmp_path)})
    with running(chosen) as url:
        user = {"OS_AUTH_TYPE": "http_basic", "OS_USERNAME": "member", "OS_PASSWORD": "member"}
        endpoint = {"OS_ENDPOINT": url.replace("http:", "https:")}
        command = ("firewall", "group", "create", "g", "-f", "value", "-c", "Name")
        trusted = run_once(user | endpoint | {"OS_CACERT": str(authority.file)}, *command)
        refused = run_once(user | endpoint, *command)
    assert (trusted.returncode, trusted.stdout) == (0, "g\n"), trusted.stderr
    assert (refused.returncode, "CERTIFICATE_VERIFY_FAILED" in refused.stderr) == (1, True)
