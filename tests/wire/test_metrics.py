"""``/metrics``, as Prometheus reads it."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from portward import __version__
from portward.service.agents import add_host, record_poll, revoke
from portward.store import Store, now, tables
from wire.agent_server import eventually
from wire.conftest import UNKNOWN, Api, serving, settings

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Both listeners of a server whose database is in ``tmp_path``."""
    with serving(settings(tmp_path)) as both:
        yield both


def scrape(url: str) -> Samples:
    answer = httpx2.get(f"{url}/metrics", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def requests(found: Samples, **labels: str) -> float:
    return sum(
        value for key, value in found["portward_http_requests_total"].items() if labels.items() <= dict(key).items()
    )


def test_requests_count_by_method_template_and_status_and_never_by_path(urls: tuple[str, str]) -> None:
    api = Api(urls[0])
    rule = api.make("firewall_rule")
    for id_ in (rule["id"], UNKNOWN):
        api.get("firewall_rule", id_)
    api.request("BREW", "/v2.0/fwaas/firewall_rules")
    api.request("GET", f"/secret/{UNKNOWN}")
    api.http.close()

    found = scrape(urls[0])

    item = "/v2.0/fwaas/firewall_rules/{id}"
    assert requests(found, method="POST", route="/v2.0/fwaas/firewall_rules", status="201") == 1
    assert requests(found, method="GET", route=item, status="200") == 1
    assert requests(found, method="GET", route=item, status="404") == 1
    assert requests(found, method="other", status="405") == 1
    assert requests(found, route="none", status="404") == 1
    assert found["portward_http_request_seconds_count"][(("listener", "api"), ("method", "GET"), ("route", item))] == 2
    assert UNKNOWN not in repr(found)
    assert "secret" not in repr(found)


def test_both_listeners_tell_of_both(urls: tuple[str, str]) -> None:
    httpx2.post(f"{urls[1]}/v1/state", trust_env=False)

    for url in urls:
        assert requests(scrape(url), listener="agent_api", method="POST", route="/v1/state", status="401") == 1


def test_hosts_count_by_state_without_their_names(urls: tuple[str, str], tmp_path: Path) -> None:
    store = Store(settings(tmp_path).database.url)

    def register(session) -> None:  # type: ignore[no-untyped-def]
        for name in ("secret-1", "secret-2", "secret-3", "secret-4"):
            add_host(session, name, now())
        record_poll(session, "secret-1", now())
        record_poll(session, "secret-2", now() - timedelta(seconds=100))
        revoke(session, "secret-4", now())
        session.execute(update(tables.State).values(generation=41))

    store.writing(register)
    store.close()

    found = scrape(urls[0])

    hosts = {dict(key)["state"]: value for key, value in found["portward_hosts"].items()}
    assert hosts == {"polling": 1, "silent": 2, "revoked": 1}
    assert found["portward_generation"] == {(): 41}
    assert found["portward_database_up"] == {(): 1}
    assert "secret" not in repr(found)


def test_agents_that_wait_are_counted(urls: tuple[str, str], tmp_path: Path) -> None:
    store = Store(settings(tmp_path).database.url)
    token = store.writing(lambda session: add_host(session, "h1", now()))
    store.close()
    assert scrape(urls[1])["portward_polls_waiting"] == {(): 0}
    with httpx2.Client(base_url=urls[1], trust_env=False, headers={"Authorization": f"Bearer {token}"}) as http:
        held = http.post("/v1/state", json={"wait": 0}).json()
        asked = {"generation": held["generation"], "digest": held["digest"], "wait": 30}
        with pytest.raises(httpx2.ReadTimeout):
            http.post("/v1/state", json=asked, timeout=0.5)
        assert scrape(urls[1])["portward_polls_waiting"][()] <= 1
    with httpx2.stream("GET", f"{urls[1]}/metrics", trust_env=False) as answer:
        assert answer.status_code == 200


def test_a_broken_database_takes_its_own_figures_along_and_no_others(urls: tuple[str, str], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "portward.db") as connection:
        connection.execute("DROP TABLE state")
    connection.close()

    found = scrape(urls[1])

    assert found["portward_database_up"] == {(): 0}
    assert "portward_generation" not in found
    assert "portward_hosts" not in found
    assert found["portward_build_info"] == {(("version", __version__),): 1}
    assert found["portward_transactions_repeated_total"] == {(): 0}
    assert found["process_open_fds"][()] > 0


def test_the_users_listener_can_be_closed_to_it(tmp_path: Path) -> None:
    with serving(settings(tmp_path, metrics=False)) as (api, agents):
        assert httpx2.get(f"{api}/metrics", trust_env=False).status_code == 404
        eventually(lambda: scrape(agents))
