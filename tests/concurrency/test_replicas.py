"""Two replicas on one database and eight clients that write at random end as if one call had come after another.

Proven, for each run that is made: every answer, success or refusal, and all that is stored at the end of each step, is
what a plain sequential model gives for one order of all calls that keeps what clients could see of time. So no
acknowledged write is lost or made twice, lists of rules and ports are exact, a revision grows by one for each
effective change, an audit falls with every change, refusals have a reason, and reads never see half a change. In the
rows themselves: no orphan, no place taken twice. Agents that poll either replica come to hold exactly what is stored.

Not proven: that no other timing breaks it; the times of objects; the status of groups; what happens when a replica, or
the database, dies in between. PostgreSQL is made to look for deadlocks after 1 ms, so that it also tells who waits.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from concurrency.machine import Machine
from concurrency.replicas import Cloud, cloud
from concurrency.stranger import Stranger
from portward.store import upgrade
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL

#: Runs on each database, the first of which is short; PORTWARD_RACES=100 makes a soak, with other seeds each time.
_EXAMPLES = int(os.environ.get("PORTWARD_RACES", "2"))
SETTINGS = settings(
    max_examples=_EXAMPLES,
    stateful_step_count=6,
    derandomize="PORTWARD_RACES" not in os.environ,
    phases=[Phase.generate],  # a race does not become clearer by being run smaller
    report_multiple_bugs=False,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def on_postgresql(server: PostgreSQL) -> tuple[str, Callable[[], int]]:
    """A new database, and how often a transaction waited for another in it."""
    url = server.create()
    name = url.rpartition("/")[2].partition("?")[0]
    for setting in ("deadlock_timeout = '1ms'", "log_lock_waits = on"):
        server.execute(f"ALTER DATABASE {name} SET {setting}")
    return url, lambda: server.log.read_bytes().count(b" still waiting for ")


def on_mariadb(server: MariaDB) -> tuple[str, Callable[[], int]]:
    """A new database, and how often a transaction waited for another on its server."""

    def waits() -> int:
        with pymysql.connect(unix_socket=f"{server.directory}/socket", user="root") as connection:
            cursor = connection.cursor()
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")
            return int(cursor.fetchall()[0][1])

    return server.create(), waits


@pytest.fixture(params=["postgresql", "mariadb"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    """Two replicas on a new database of a real server."""
    server = request.getfixturevalue(request.param)
    url, waits = on_postgresql(server) if request.param == "postgresql" else on_mariadb(server)
    upgrade(url)
    with cloud(tmp_path, url, waits) as made:
        yield made


def test_calls_at_once_end_as_one_after_another(
    replicas: Cloud, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    class Here(Machine):
        cloud = replicas

    with Stranger(replicas.store):
        run_state_machine_as_test(Here, settings=SETTINGS)
    waited, repeated = replicas.waited(), replicas.repeated()
    with capsys.disabled():
        print(
            f"\n{request.node.callspec.id}: {replicas.calls} calls compared; {waited} conflicts met (one transaction "
            f"waited for another), {repeated} lost and retried; hosts knew of the other replica's writes after at most "
            f"{replicas.slowest * 1000:.0f} ms"
        )
    assert waited > 0, "no transaction ever waited for another: this did not race"
    assert repeated > 0, "no transaction was ever retried: this did not race"
