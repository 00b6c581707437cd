"""The wire itself: documents of discovery, methods, headers, and bodies that make no sense."""

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from wire.agent_server import eventually
from wire.conftest import DEADLINE, UNKNOWN, Api, running, settings

RULES = "/v2.0/fwaas/firewall_rules"


def test_every_answer_has_a_request_id_and_the_plain_content_type(api: Api) -> None:
    answers = [api.request("GET", path) for path in ("/", "/v2.0", RULES, "/nope", f"{RULES}/nope")]
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    ids = {answer.headers["x-openstack-request-id"] for answer in answers}
    assert len(ids) == len(answers)
    assert all(id_.startswith("req-") for id_ in ids)


@pytest.mark.parametrize("host", ["127.0.0.1:9696", "localhost:1234", "[::1]:1", "localhost", "127.0.0.2"])
def test_version_documents_lead_back_to_where_the_client_found_them(api: Api, host: str) -> None:
    link = {"rel": "self", "href": f"http://{host}/v2.0/"}
    version = {"id": "v2.0", "status": "CURRENT", "links": [link]}
    assert api.request("GET", "/", headers={"Host": host}).json() == {"versions": [version]}
    for path in ("/v2.0", "/v2.0/"):
        document = api.request("GET", path, headers={"Host": host}).json()
        assert document["version"] == version
        assert {item["collection"] for item in document["resources"]} == {
            "firewall_rules",
            "firewall_policies",
            "firewall_groups",
            "address-groups",
            "ports",
        }


def test_extensions_are_listed_and_found_by_alias(api: Api) -> None:
    extensions = api.request("GET", "/v2.0/extensions").json()["extensions"]
    assert {
        "fwaas_v2",
        "fwaas-counters",
        "fwaas-realisation",
        "fwaas-explain",
        "fwaas-hosts",
        "standard-attr-tag",
        "revision-if-match",
    } <= {item["alias"] for item in extensions}
    for extension in extensions:
        assert extension.keys() == {"name", "alias", "description", "updated", "links"}
        found = api.request("GET", f"/v2.0/extensions/{extension['alias']}")
        assert found.json() == {"extension": extension}
    assert api.request("GET", "/v2.0/extensions/bgp").status_code == 404


def test_projects_are_not_looked_up_here(api: Api) -> None:
    for path in ("/tenants", "/tenants/x", "/v2.0/tenants", "/v2.0/tenants/x"):
        assert api.request("GET", path).status_code == 403


def test_a_trailing_slash_is_tolerated(api: Api) -> None:
    rule = api.make("firewall_rule")
    assert api.request("GET", f"{RULES}/").json() == {"firewall_rules": [rule]}
    assert api.request("GET", f"{RULES}/{rule['id']}/").json() == {"firewall_rule": rule}


def test_a_path_may_be_written_as_neutron_takes_it(api: Api) -> None:
    rule = api.make("firewall_rule")
    for path in (f"{RULES}.json", f"{RULES}.json/", "/v2.0/firewall_rules", "/v2.0/firewall_rules.json"):
        assert api.request("GET", path).json() == {"firewall_rules": [rule]}
    for path in (f"{RULES}/{rule['id']}.json", f"/v2.0/firewall_rules/{rule['id']}/"):
        assert api.request("GET", path).json() == {"firewall_rule": rule}
    policy = api.make("firewall_policy")
    inserted = api.request(
        "PUT", f"/v2.0/firewall_policies/{policy['id']}/insert_rule.json", json={"firewall_rule_id": rule["id"]}
    )
    assert inserted.json()["firewall_rules"] == [rule["id"]]
    assert api.request("GET", "/v2.0/ports.json").json() == {"ports": []}
    links = api.request("GET", "/v2.0/firewall_rules.json?limit=1").json()["firewall_rules_links"]
    assert links[0]["href"].startswith(f"{api.url}/v2.0/firewall_rules.json?limit=1&marker=")
    for path in ("/v2.0.json", "/v2.0/fwaas.json", "/v2.0/fwaas/ports", "/fwaas/firewall_rules", "/v2.0/rules"):
        assert api.request("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PATCH", RULES, "GET, POST"), ("PUT", RULES, "GET, POST"), ("DELETE", RULES, "GET, POST"),
     ("OPTIONS", RULES, "GET, POST"), ("PATCH", f"{RULES}/{UNKNOWN}", "GET, PUT, DELETE"),
     ("POST", f"{RULES}/{UNKNOWN}", "GET, PUT, DELETE"), ("POST", "/", "GET"), ("GET", "/v2.0/fwaas/explain", "POST")],
)  # fmt: skip
def test_a_method_that_a_path_does_not_take_is_refused(api: Api, method: str, path: str, allowed: str) -> None:
    answer = api.request(method, path)
    assert answer.status_code == 405
    assert answer.json()["NeutronError"]["type"] == "HTTPMethodNotAllowed"
    assert answer.headers["allow"] == allowed


def test_head_of_a_collection_is_refused(api: Api) -> None:
    assert api.request("HEAD", RULES).status_code == 405


@pytest.mark.parametrize("path", ["/nope", "/v2.0/nope", "/v2.0/fwaas", "/v2.0/fwaas/nope", f"{RULES}/{UNKNOWN}/nope"])
def test_a_path_to_nothing_is_not_found(api: Api, path: str) -> None:
    answer = api.request("GET", path)
    assert answer.status_code == 404
    assert answer.json()["NeutronError"]["type"] == "HTTPNotFound"


NO_JSON = "Malformed request body: "
BODIES = [
    (b"", "Resource body required"),
    (b"{}", "Resource body required"),
    (b"[]", "Resource body required"),
    (b"null", "Resource body required"),
    (b"{", "Malformed request body: Cannot understand JSON."),
    (b"{'firewall_rule': {}}", NO_JSON),
    (b'{"firewall_rule": {"name": NaN}}', NO_JSON),
    (b'{"firewall_rule": {"name": "\xff"}}', NO_JSON),
    (b'{"firewall_rule": {"name": "\\ud800"}}', NO_JSON),
    (b'{"firewall_rule": {"name": "\\u0000"}}', NO_JSON),
    (b'{"firewall_rule": {"na\\u0000me": "x"}}', NO_JSON),
    (b'{"firewall_rule": {"name": ' + b"[" * 100_000, NO_JSON),
    (b'{"firewall_rule": {"name": ' + b"[" * 500 + b"]" * 500 + b"}}", NO_JSON),
    (b'{"firewall_rule": {"ip_version": ' + b"9" * 5000 + b"}}", NO_JSON),
    (b'{"firewall_rule": {"source_port": 18446744073709551616}}', NO_JSON),
    (b'{"firewall_rule": {"source_port": 1e999}}', NO_JSON),
    (b'{"rule": {}}', "Unable to find 'firewall_rule' in request body"),
    (b'[{"firewall_rule": {}}]', "Unable to find 'firewall_rule' in request body"),
    (b'"firewall_rule"', "Unable to find 'firewall_rule' in request body"),
    (b'{"firewall_rule": {"name": "x"}, "shared": true}', "Unrecognized attribute(s) 'shared'"),
    (b'{"firewall_rule": []}', "Object 'firewall_rule' contains invalid data"),
    (b'{"firewall_rule": [{}]}', "Object 'firewall_rule' contains invalid data"),
    (b'{"firewall_rule": null}', "Object 'firewall_rule' contains invalid data"),
    (b'{"firewall_rule": "x"}', "Object 'firewall_rule' contains invalid data"),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
def test_a_body_that_makes_no_sense_is_refused_and_changes_nothing(api: Api, body: bytes, message: str) -> None:
    rule = api.make("firewall_rule")
    answer = api.request("POST", RULES, content=body)
    assert answer.status_code == 400
    assert message in answer.json()["NeutronError"]["message"]
    changed = api.request("PUT", f"{RULES}/{rule['id']}", content=body)
    assert changed.status_code == 400
    assert api.index("firewall_rule") == [rule]


def test_a_change_without_a_body_is_refused_in_neutrons_words(api: Api) -> None:
    rule = api.make("firewall_rule")
    answer = api.request("PUT", f"{RULES}/{rule['id']}")
    assert answer.json()["NeutronError"] == {
        "type": "BadRequest",
        "message": "Bad body request: Invalid format: b''.",
        "detail": "",
    }


def test_a_deletion_takes_no_body(api: Api) -> None:
    rule = api.make("firewall_rule")
    answer = api.request("DELETE", f"{RULES}/{rule['id']}", content=b"{}")
    assert answer.status_code == 400
    assert answer.json()["NeutronError"]["message"] == "Request body is not supported in DELETE."
    assert api.index("firewall_rule") == [rule]


def test_a_page_in_a_browser_is_not_let_in(api: Api) -> None:
    answer = api.request("POST", RULES, json={"firewall_rule": {}}, headers={"Origin": "http://evil.example"})
    assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (403, "HTTPForbidden")
    assert api.index("firewall_rule") == []


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9696", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "", "[::1",
     "::1]", "localhost:", "localhost:x", "a@localhost", "[localhost]", "[]"],
)  # fmt: skip
def test_a_name_that_was_made_to_lead_here_is_not_let_in(api: Api, host: str) -> None:
    for path in ("/", "/v2.0", "/tenants", "/nope", RULES):
        answer = api.request("GET", path, headers={"Host": host})
        assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (403, "HTTPForbidden")


def test_a_request_that_names_no_host_is_not_let_in(api: Api) -> None:
    host, _, port = api.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_refused(tmp_path: Path, chunked: bool) -> None:
    with running(settings(tmp_path, max_body=2048)) as url:
        api = Api(url)
        body = b'{"firewall_rule": {"description": "' + b"x" * 10_000 + b'"}}'
        answer = api.request("POST", RULES, content=iter([body[:5000], body[5000:]]) if chunked else body)
        assert answer.status_code == 413
        assert answer.json()["NeutronError"]["type"] == "HTTPRequestEntityTooLarge"
        assert api.index("firewall_rule") == []
        assert api.make("firewall_rule", description="x" * 200)
        api.http.close()


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(tmp_path: Path) -> None:
    with capture_logs() as logs, running(settings(tmp_path)) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as leaving:
            leaving.sendall(b"POST /v2.0/ports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        eventually(lambda: [log for log in logs if log["event"] == "request"])
    assert {log["log_level"] for log in logs} == {"info"}
    assert [log["status"] for log in logs if log["event"] == "request"] == [0]
