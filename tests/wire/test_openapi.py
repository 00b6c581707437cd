"""``/openapi.json``: the API does what it says there, whatever is sent."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, seed
from hypothesis import settings as tried
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from portward.api.access import make_access
from portward.api.app import create_app
from portward.api.envelope import Envelope
from portward.api.news import News
from portward.api.openapi import make_document
from portward.config import Auth, Settings
from portward.store import Store
from portward.store.migrate import upgrade
from wire.conftest import UNKNOWN, Api, running, settings

#: What an identity service has; it is here to be refused.
_NOT_OURS = {("GET", f"{prefix}/tenants{item}") for prefix in ("", "/v2.0") for item in ("", "/{id}")}
#: The watchers' paths come with the server, not with the application.
_WATCHED = {("GET", "/healthz"), ("GET", "/metrics")}
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: Requests of each call, half of them such as the document admits, half not. More find more, and take longer.
_TRIES = int(os.environ.get("PORTWARD_TEST_OPENAPI_TRIES", "6"))
_METHODS = {"get", "put", "post", "delete"}
_CALLS = sorted(
    # What deletes an item comes last, so that the others find it.
    ((path, method) for path, item in make_document(Settings())["paths"].items() for method in _METHODS & item.keys()),
    key=lambda call: (call[1] == "delete" and call[0].endswith("{id}"), call),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of which everybody is the admin."""
    with running(settings(tmp_path_factory.mktemp("openapi"))) as url:
        yield url


@pytest.fixture(scope="module")
def items(server: str) -> dict[str, str]:
    """Ids of items that are there, by the collection in their path."""
    api = Api(server)
    rule = api.make("firewall_rule", protocol="tcp", action="allow")
    policy = api.make("firewall_policy", firewall_rules=[rule["id"]])
    port = api.router_port(fixed_ips=[{"ip_address": "192.0.2.1"}], mac_address="fa:16:3e:00:00:01")
    group = api.make("firewall_group", ports=[port["id"]], ingress_firewall_policy_id=policy["id"])
    api.http.close()
    made = {"firewall_rules": rule, "firewall_policies": policy, "firewall_groups": group, "ports": port}
    return {collection: item["id"] for collection, item in made.items()}


@pytest.fixture(scope="module")
def described(server: str) -> Any:
    """The document, as schemathesis reads it."""
    return schemathesis.openapi.from_url(f"{server}/openapi.json")


@pytest.mark.parametrize(("path", "method"), _CALLS)
def test_each_call_answers_as_the_document_says_whatever_it_is_sent(
    path: str, method: str, server: str, described: Any, items: dict[str, str]
) -> None:
    operation = described[path][method.upper()]
    there = next((id_ for collection, id_ in items.items() if f"/{collection}/" in path), None)
    requests = operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE)

    @seed(1)
    @tried(max_examples=_TRIES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=requests, meets=st.booleans())
    def ask(case: Any, meets: bool) -> None:
        if there is not None and meets:
            case.path_parameters["id"] = there
        assume(len(urlencode(case.query or {}, doseq=True)) < 60_000)  # what is longer is refused before it is read
        case.call_and_validate(base_url=server, checks=_CHECKS)

    ask()


def test_the_document_has_the_calls_that_there_are_and_no_others(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    upgrade(chosen.database.url)
    store = Store(chosen.database.url)
    app = create_app(store, News(store.generation), chosen, make_access(chosen))
    assert isinstance(app, Envelope)
    routed = {(method, route.path) for route in app.app.routes for method in route.endpoint.handlers}
    described = {(method.upper(), path) for path, item in _paths(chosen) for method in _METHODS & item.keys()}
    store.close()
    assert described - _WATCHED == routed - _NOT_OURS


def test_the_document_is_for_everybody_and_valid(server: str) -> None:
    answer = httpx2.get(f"{server}/openapi.json", trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["openapi"] == "3.1.0"
    for schema in answer.json()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("mode", "scheme"),
    [("none", {}), ("http_basic", {"type": "http", "scheme": "basic"}), ("keystone", {"name": "X-Auth-Token"})],
)
def test_the_document_says_how_callers_show_who_they_are(mode: Any, scheme: dict[str, str]) -> None:
    document = make_document(Settings(auth=Auth(mode=mode)))
    found = document["components"]["securitySchemes"]
    assert list(found) == ([] if mode == "none" else [mode])
    assert not scheme or scheme.items() <= found[mode].items()
    assert ("401" in document["paths"]["/v2.0/ports"]["get"]["responses"]) == (mode != "none")


def test_an_item_that_is_not_there_is_an_error_that_the_document_has(server: str) -> None:
    answer = httpx2.get(f"{server}/v2.0/ports/{UNKNOWN}", trust_env=False)
    schema = make_document(Settings())["components"]["schemas"]["NeutronError"]
    jsonschema.validate(answer.json(), schema)


def _paths(chosen: Settings) -> Any:
    return make_document(chosen)["paths"].items()
