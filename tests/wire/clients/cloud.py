"""The cloud in which the unchanged clients act: a server, who may call it, and how each client is told so."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack
from openstack.connection import Connection

from demo.client import OpenStackClient
from portward.config import Auth, Settings
from portward.config import Keystone as Section
from portward.store import Store
from servers.keystone import PASSWORD, REGION, Keystone
from wire.conftest import Api, running, settings
from wire.contract.cloud import write_users

RULE, POLICY, GROUP = "firewall_rule", "firewall_policy", "firewall_group"
#: What the ``openstack`` command calls an attribute, wherever it prints it.
COLUMNS = {
    RULE: {
        "ID": "id", "Name": "name", "Enabled": "enabled", "Description": "description",
        "Firewall Policy": "firewall_policy_id", "IP Version": "ip_version", "Action": "action",
        "Protocol": "protocol", "Source IP Address": "source_ip_address", "Source Port": "source_port",
        "Destination IP Address": "destination_ip_address", "Destination Port": "destination_port",
        "Shared": "shared", "Project": "project_id",
    },
    POLICY: {
        "ID": "id", "Name": "name", "Firewall Rules": "firewall_rules", "Description": "description",
        "Audited": "audited", "Shared": "shared", "Project": "project_id",
    },
    GROUP: {
        "ID": "id", "Name": "name", "Ingress Policy ID": "ingress_firewall_policy_id",
        "Egress Policy ID": "egress_firewall_policy_id", "Description": "description", "Status": "status",
        "Ports": "ports", "State": "admin_state_up", "Shared": "shared", "Project": "project_id",
    },
}  # fmt: skip
#: The user of Keystone, and the one of the users' file, who plays a part.
_KEYSTONE_USERS = {"admin": "admin", "member": "member1", "reader": "reader1", "stranger": "member2"}


@dataclass(frozen=True)
class Cloud:
    """A server on a database of its own; without Keystone and ``users``, everybody is its admin."""

    url: str
    store: Store
    keystone: Keystone | None = None
    users: bool = False

    def variables(self, who: str, endpoint: str = "") -> dict[str, str]:
        """What the ``openstack`` command needs in its environment; ``endpoint`` is the path after the server's URL."""
        if self.keystone is not None:
            return self.keystone.client_environment(_KEYSTONE_USERS[who])
        access = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": self.url + endpoint}
        if self.users:
            access |= {"OS_AUTH_TYPE": "http_basic", "OS_USERNAME": who, "OS_PASSWORD": who}
        return access

    def options(self, who: str, endpoint: str = "") -> dict[str, Any]:
        """What ``openstack.connect`` needs, likewise."""
        if self.keystone:
            project = {"admin": "admin", "stranger": "p2"}.get(who, "p1")
            domain = {"user_domain_id": "default", "project_domain_id": "default", "project_name": project}
            user = {"username": _KEYSTONE_USERS[who], "password": PASSWORD}
            return {"auth": {"auth_url": self.keystone.url, **user, **domain}, "region_name": REGION}
        if self.users:
            return {
                "auth_type": "http_basic",
                "auth": {"endpoint": self.url + endpoint, "username": who, "password": who},
            }
        return {"auth_type": "none", "auth": {"endpoint": self.url + endpoint}}

    @contextmanager
    def api(self, who: str = "admin") -> Iterator[Api]:
        """The API without any client in between, to see what it holds."""
        api = Api(self.url, (who, who) if self.users else None)
        if self.keystone:
            api.http.headers["X-Auth-Token"] = self.keystone.token(_KEYSTONE_USERS[who])
        with api.http:
            yield api

    def project(self, name: str) -> str:
        """The id of the project ``name``."""
        return self.keystone.projects[name] if self.keystone else name


@contextmanager
def cloud_of(mode: str, directory: Path) -> Iterator[Cloud]:
    """A cloud in one of the three auth modes."""
    chosen: Settings = settings(directory)
    keystone: Keystone | None = None
    with ExitStack() as stack:
        if mode == "keystone":
            keystone = stack.enter_context(Keystone())
            section = Section(**keystone.service_options())
            chosen = chosen.model_copy(update={"auth": Auth(mode="keystone"), "keystone": section})
        elif mode == "http_basic":
            chosen = chosen.model_copy(update={"auth": write_users(directory)})
        url = stack.enter_context(running(chosen))
        if keystone:
            keystone.set_network_endpoint(url)
        store = Store(chosen.database.url)
        stack.callback(store.close)
        yield Cloud(url, store, keystone, users=mode == "http_basic")


@contextmanager
def connected(**options: Any) -> Iterator[Connection]:
    """A connection of openstacksdk that knows nothing but ``options``."""
    connection = openstack.connect(load_yaml_config=False, load_envvars=False, **options)
    try:
        yield connection
    finally:
        connection.close()


def told(shell: OpenStackClient, command: str) -> Any:
    """What the command prints with ``-f json``."""
    answer = shell.run(f"{command} -f json")
    try:
        return json.loads(answer)
    except ValueError:
        raise AssertionError(f"{command}:\n{answer}") from None


def does(shell: OpenStackClient, command: str) -> None:
    """Run a command that has nothing to say when it went well, but that an option is deprecated."""
    answer = shell.run(command)
    assert all("option is deprecated" in line for line in answer.splitlines()), f"{command}:\n{answer}"


def run_once(variables: dict[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    """The ``openstack`` command as a script runs it, for what is said by its exit status."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return subprocess.run(
        [Path(sys.executable).with_name("openstack"), *command],
        env=kept | variables | {"PYTHONWARNINGS": "ignore", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        check=False,
    )


def check_printed(kind: str, printed: dict[str, Any], held: dict[str, Any]) -> None:
    """Each column of the command that shows an attribute shows what the API holds."""
    columns = COLUMNS[kind].items()
    assert {name: printed[name] for name, _ in columns} == {name: held[attribute] for name, attribute in columns}
