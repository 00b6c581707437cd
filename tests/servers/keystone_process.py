"""The process behind ``servers.keystone``: a whole Keystone in the directory that its argument names.

It makes the database, the keys and all that the tests know (its input, JSON), says on standard output where it listens,
as one line of JSON, and serves until its standard input ends, so that it never outlives the test.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from keystone.cmd.bootstrap import Bootstrapper
from keystone.common import provider_api, sql
from keystone.common.fernet_utils import FernetUtils
from keystone.common.sql import upgrades
from keystone.conf import CONF
from keystone.server import backends
from keystone.server.flask import core
from werkzeug.serving import WSGIRequestHandler, make_server

_CONFIGURATION = """
[DEFAULT]
log_file = {directory}/keystone.log
[database]
connection = sqlite:///{directory}/keystone.db
[cache]
enabled = true
backend = dogpile.cache.memory
[token]
provider = fernet
[fernet_tokens]
key_repository = {directory}/fernet
[fernet_receipts]
key_repository = {directory}/fernet
[credential]
key_repository = {directory}/credential
[identity]
password_hash_algorithm = bcrypt
password_hash_rounds = 4
[oslo_policy]
policy_file = {directory}/policy.yaml
"""


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def main(directory: Path) -> None:
    wanted = json.loads(sys.stdin.readline())
    configuration = directory / "keystone.conf"
    configuration.write_text(_CONFIGURATION.format(directory=directory))
    _make_keys(directory)
    app = core.initialize_application("public", config_files=[str(configuration)])
    upgrades.offline_sync_database_to_version()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    url = f"http://127.0.0.1:{server.server_port}/v3"
    made = _populate(url, wanted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"url": url, **made}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # no thread of a request may hold the end up


def _make_keys(directory: Path) -> None:
    for name, section in (("fernet", "fernet_tokens"), ("credential", "credential")):
        (directory / name).mkdir(mode=0o700)
        keys = FernetUtils(str(directory / name), 3, section)
        keys.initialize_key_repository()


def _populate(url: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Keystone's own bootstrap, then projects and users with their roles; their ids, and an expired token."""
    backends.load_backends = dict  # the application has loaded them, and they load once
    boot = Bootstrapper()
    boot.admin_username, boot.admin_password = "admin", wanted["password"]
    boot.project_name, boot.admin_role_name, boot.service_name = "admin", "admin", "keystone"
    boot.region_id = wanted["region"]
    boot.public_url = boot.internal_url = boot.admin_url = url
    boot.immutable_roles = True
    boot.bootstrap()
    apis = provider_api.ProviderAPIs
    visitor = {"id": os.urandom(16).hex(), "name": "visitor"}
    apis.role_api.create_role(visitor["id"], visitor)
    roles = {role["name"]: role["id"] for role in apis.role_api.list_roles()}
    projects = {"admin": boot.project_id}
    users = {"admin": boot.admin_user_id}
    for name in wanted["projects"]:
        project = {"id": os.urandom(16).hex(), "name": name, "domain_id": "default", "enabled": True}
        projects[name] = apis.resource_api.create_project(project["id"], project)["id"]
    for name, project_name, role in wanted["users"]:
        user = {"name": name, "domain_id": "default", "enabled": True, "password": wanted["password"]}
        users[name] = apis.identity_api.create_user(user)["id"]
        apis.assignment_api.create_grant(roles[role], user_id=users[name], project_id=projects[project_name])
    for role in ("admin", "member"):  # for tokens of a domain, which has no project
        apis.assignment_api.create_grant(roles[role], user_id=users["admin"], domain_id="default")
    service = {"id": os.urandom(16).hex(), "type": "network", "name": "portward", "enabled": True}
    apis.catalog_api.create_service(service["id"], service)
    endpoint = {
        "id": os.urandom(16).hex(),
        "service_id": service["id"],
        "interface": "public",
        "url": "http://127.0.0.1:9696",
        "region_id": wanted["region"],
        "enabled": True,
    }
    apis.catalog_api.create_endpoint(endpoint["id"], endpoint)
    CONF.set_override("expiration", 0, group="token")
    token = apis.token_provider_api.issue_token(users["member1"], ["password"], project_id=projects["p1"])
    CONF.clear_override("expiration", group="token")
    return {"projects": projects, "users": users, "endpoint": endpoint["id"], "expired_token": token.id}


if __name__ == "__main__":
    chosen = Path(sys.argv.pop())  # Keystone reads the arguments too
    sql.initialize()
    main(chosen)
