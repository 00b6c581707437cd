"""What the tests of the contract share: personas, hosts that are played by hand, a clock, and how refusals are told."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import httpx2

from portward.channel.messages import Index, StateAnswer, decode
from portward.config import Auth
from portward.service import agents
from portward.store import Store, now
from wire.agent_server import Host as Messenger
from wire.conftest import Api, path

RULE, POLICY, GROUP, PORT = "firewall_rule", "firewall_policy", "firewall_group", "port"
#: The kinds of the API, and how Neutron's errors begin for each.
KINDS = {RULE: "FirewallRule", POLICY: "FirewallPolicy", GROUP: "FirewallGroup"}
TITLES = {RULE: "Firewall rule", POLICY: "Firewall policy", GROUP: "Firewall group"}
DENIED = "PolicyNotAuthorized"
ROUTER, COMPUTE = "network:router_interface", "compute:nova"
PERSONAS = {
    "admin": ("admin", "admin"),
    "member": ("p1", "member"),
    "reader": ("p1", "reader"),
    "stranger": ("p2", "member"),
    "foreign_reader": ("p2", "reader"),
    "roleless": ("p1", ""),
}


def write_users(directory: Path) -> Auth:
    """The users' file of all personas, each with its name as password."""
    file = directory / "users"
    lines = []
    for name, (project, role) in PERSONAS.items():
        hashed = bcrypt.hashpw(name.encode(), bcrypt.gensalt(4)).decode()
        lines.append(f"{name}:{hashed}:{project}:{role}\n")
    file.touch(stat.S_IRUSR | stat.S_IWUSR)
    file.write_text("".join(lines))
    return Auth(mode="http_basic", users_file=file)


class Personas:
    """Who acts: an admin, a member and a reader of p1, a member and a reader of p2, and one of p1 without a role."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.admin, self.member, self.reader, self.stranger, self.foreign_reader, self.roleless = (
            Api(url, (name, name)) for name in PERSONAS
        )

    def close(self) -> None:
        """Let go of all connections."""
        for name in PERSONAS:
            getattr(self, name).http.close()


class Clock:
    """The servers' time: the real one, and what was added to it."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass at once."""
        self._ahead += timedelta(seconds=seconds)

    def reset(self) -> None:
        """Back to the real time."""
        self._ahead = timedelta()


class Cloud:
    """Two servers on one database, of which ``defaults`` makes default groups."""

    def __init__(self, plain: Personas, defaults: Personas, agents_url: str, store: Store, clock: Clock) -> None:
        self.plain = plain
        self.defaults = defaults
        self.url = agents_url  # of the agents' listener
        self.store = store
        self.clock = clock

    def close(self) -> None:
        """Let go of all connections."""
        self.plain.close()
        self.defaults.close()


class Host:
    """An agent that is played by hand: it takes the state when told to, and says of it what it is told to."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        token = cloud.store.writing(lambda session: agents.add_host(session, name, cloud.clock()))
        self._messenger = Messenger(cloud, token)

    def state(self) -> StateAnswer:
        """What the host is to enforce."""
        return self._messenger.ask()

    def index(self) -> Index:
        """The ports that the host is to enforce, with their groups."""
        return decode(bytes(self.state().index), Index)

    def report(self, error: str | None = None) -> None:
        """Say of all ports that they are realised, or that this ``error`` was met."""
        state = self.state()
        ports = decode(bytes(state.index), Index).ports
        answer = self._messenger.report(state.generation, {covered.port.id: error for covered in ports})
        assert answer.status_code == 200, answer.text

    def close(self) -> None:
        """Let go of the connection."""
        self._messenger.close()


def refused(answer: httpx2.Response, status: int, kind: str, message: str | None = None) -> None:
    """The answer is an error of that status and type, in Neutron's shape, with that message if one is given."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"NeutronError"}, body
    error = body["NeutronError"]
    assert error.keys() == {"type", "message", "detail"}
    assert (answer.status_code, error["type"], error["detail"]) == (status, kind, ""), error
    if message is not None:
        assert error["message"] == message


def denied(answer: httpx2.Response, *rules: str) -> None:
    """The answer is Neutron's 403 that names these rules of policy."""
    names = " and ".join(f"rule:{rule}" for rule in rules)
    names = names if len(rules) == 1 else f"({names})"
    refused(answer, 403, DENIED, f"{names} is disallowed by policy")


def not_found(answer: httpx2.Response, kind: str, id_: object) -> None:
    """The answer says that there is no such object, in Neutron's words."""
    if kind == PORT:
        refused(answer, 404, "PortNotFound", f"Port {id_} could not be found.")
    else:
        refused(answer, 404, f"{KINDS[kind]}NotFound", f"{TITLES[kind]} {id_} could not be found.")


@contextmanager
def unchanged(admin: Api) -> Iterator[None]:
    """Whatever is done inside leaves everything as it was, revisions and times included."""
    before = admin.everything()
    yield
    assert admin.everything() == before


def router_port(admin: Api, project: str = "p1", **attributes: Any) -> str:
    """The id of a new router's interface of ``project`` on host h1."""
    return str(admin.router_port(project_id=project, **attributes)["id"])


def vm_port(admin: Api, project: str = "p1", **attributes: Any) -> str:
    """The id of a new VM's port of ``project``, bound on no host."""
    return str(admin.make(PORT, project_id=project, device_owner=COMPUTE, **attributes)["id"])


def rules(api: Api, count: int, **attributes: Any) -> list[str]:
    """The ids of as many new rules."""
    return [str(api.make(RULE, **attributes)["id"]) for _ in range(count)]


def listed(api: Api, kind: str, **query: Any) -> list[str]:
    """The ids in the answer to a list."""
    return [item["id"] for item in api.index(kind, **query)]


def raw(api: Api, method: str, kind: str, content: bytes, id_: str = "", **headers: str) -> httpx2.Response:
    """The answer to any bytes as the body of a request about a collection or an item."""
    return api.request(method, path(kind) + (f"/{id_}" if id_ else ""), content=content, headers=headers)


def verdict(admin: Api, port: str, direction: str = "ingress") -> str:
    """What becomes of a TCP packet to port 80 at ``port``."""
    packet = {
        "source": "192.0.2.1", "destination": "192.0.2.2", "protocol": "tcp", "source_port": 1024,
        "destination_port": 80,
    }  # fmt: skip
    body = {"explain": {"port_id": port, "direction": direction, "packet": packet}}
    answer = admin.request("POST", "/v2.0/fwaas/explain", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["explanation"]["verdict"])
