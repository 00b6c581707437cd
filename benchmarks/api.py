"""The rows ``api.*``: one client over HTTP, auth mode http_basic, on SQLite and on PostgreSQL."""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.row import Figures, Row, figures, recorded
from benchmarks.server import Api, running, timed
from servers.postgresql import PostgreSQL

#: Neutron 29.0.0 with neutron-fwaas 25.0.0, MariaDB, on a machine of 2 cores like the one this was written on.
_RECORD = "Neutron 29, recorded 2026-11-22"
_CALLS = 100


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now."""
    if not any(wanted(key) for key, *_ in _MEASUREMENTS):
        return
    for database, server in DATABASES:
        with server() as url, running(url) as api:
            for key, params, measure, neutron in _MEASUREMENTS:
                if wanted(key):
                    tell(f"{key} on {database} {params or ''}")
                    yield Row(
                        key=key,
                        unit="ms",
                        params={"database": database, **params},
                        portward=figures(measure(api, **params)),
                        peers={"neutron-fwaas": neutron},
                    )


def _creates(api: Api) -> list[float]:
    number = itertools.count()

    def create() -> None:
        api.make("firewall_rule", name=f"r{next(number)}", protocol="tcp", destination_port="80", action="allow")

    for _ in range(10):
        create()
    return [timed(create) for _ in range(_CALLS)]


def _lists(api: Api, n: int) -> list[float]:
    wanted = [{"name": f"l{number}", "protocol": "udp", "description": "listed"} for number in range(n)]
    for start in range(0, len(wanted), 250):
        api.ask("POST", "fwaas/firewall_rules", {"firewall_rules": wanted[start : start + 250]})

    def index() -> None:
        listed = api.ask("GET", "fwaas/firewall_rules?description=listed")["firewall_rules"]
        assert len(listed) == len(wanted)

    index()
    return [timed(index) for _ in range(30)]


def _inserts(api: Api, n: int, ports: int) -> list[float]:
    chance = random.Random(n)
    wanted = [{"protocol": "tcp", "destination_port": str(number % 60000 + 1)} for number in range(n)]
    ids = [rule["id"] for rule in api.ask("POST", "fwaas/firewall_rules", {"firewall_rules": wanted})["firewall_rules"]]
    covered = [
        api.make("port", device_owner="network:router_interface", device_id=f"r{n}", **{"binding:host_id": "h1"})
        for _ in range(ports)
    ]
    policy = api.make("firewall_policy", firewall_rules=ids)
    api.make("firewall_group", ingress_firewall_policy_id=policy, egress_firewall_policy_id=policy, ports=covered)
    extra = api.make("firewall_rule", protocol="udp", action="allow")
    path = f"fwaas/firewall_policies/{policy}"
    taken = []
    for _ in range(_CALLS):
        body = {"firewall_rule_id": extra, "insert_after": chance.choice(ids)}
        taken.append(timed(lambda body=body: api.ask("PUT", f"{path}/insert_rule", body)))  # type: ignore[misc]
        api.ask("PUT", f"{path}/remove_rule", {"firewall_rule_id": extra})
    return taken


#: Key, parameters, what measures it, and what the peer showed.
_MEASUREMENTS: list[tuple[str, dict[str, int], Callable[..., list[float]], Figures]] = [
    ("api.create_rule", {}, _creates, recorded(31, source=_RECORD)),
    ("api.list_1000", {"n": 1000}, _lists, recorded(690, source=_RECORD)),
    *(
        ("api.insert_rule", {"n": n, "ports": ports}, _inserts, recorded(98, 903, source=_RECORD))
        for n, ports in ((10, 1), (100, 40), (1000, 100))
    ),
]


@contextmanager
def _sqlite() -> Iterator[str]:
    with TemporaryDirectory(prefix="pw-bench-") as directory:
        yield f"sqlite:///{Path(directory)}/portward.db"


@contextmanager
def _postgresql() -> Iterator[str]:
    with PostgreSQL() as server:
        yield server.create()


#: Databases to measure on, by name: each gives the URL of an empty one.
DATABASES = (("sqlite", _sqlite), ("postgresql", _postgresql))
