"""The wire itself, and requests that make no sense: refused in Neutron's shape, and nothing is changed."""

import json
import socket
import time
from base64 import b64encode
from urllib.parse import urlsplit

import pytest

from wire.conftest import DEADLINE, UNKNOWN, Api, path
from wire.contract.cloud import GROUP, POLICY, RULE, not_found, raw, refused, unchanged

KINDS = [RULE, POLICY, GROUP]


def test_every_answer_has_its_own_request_id_and_the_plain_content_type(member: Api) -> None:
    made = member.post(RULE)
    rule = made.json()[RULE]["id"]
    answers = [made, member.get(RULE, rule), member.put(RULE, rule, name="x"), member.get(RULE, "nope"),
               member.request("GET", "/nope"), member.request("GET", "/"), member.request("GET", path(RULE)),
               member.post(RULE, foo=1), member.delete(RULE, rule)]  # fmt: skip
    ids = [answer.headers["x-openstack-request-id"] for answer in answers]
    assert len(set(ids)) == len(answers)
    assert all(id_.startswith("req-") and len(id_) == len("req-") + 36 for id_ in ids)
    assert {answer.headers["content-type"] for answer in answers[:-1]} == {"application/json"}
    assert "content-type" not in answers[-1].headers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "item"), [("PATCH", True), ("POST", True), ("PATCH", False), ("HEAD", False)])
def test_a_method_that_a_path_does_not_take_is_refused(
    admin: Api, member: Api, kind: str, method: str, item: bool
) -> None:
    id_ = member.make(kind)["id"]
    with unchanged(admin):
        answer = member.request(method, path(kind) + (f"/{id_}" if item else ""))
        assert answer.status_code == 405
        if method != "HEAD":
            refused(answer, 405, "HTTPMethodNotAllowed")


@pytest.mark.parametrize("place", ["/nope", "/v2.0/nope", "/v2.0/fwaas", "/v2.0/fwaas/nope", "/v1.0", "/v3"])
def test_a_path_to_nothing_is_not_found(member: Api, place: str) -> None:
    refused(member.request("GET", place), 404, "HTTPNotFound", "The resource could not be found.")
    refused(member.request("GET", f"{path(RULE)}/{UNKNOWN}/nope"), 404, "HTTPNotFound")


@pytest.mark.parametrize("kind", KINDS)
def test_neutrons_other_spellings_of_a_path_lead_to_the_same(member: Api, kind: str) -> None:
    made = member.make(kind)
    url = path(kind)
    bare = url.replace("/fwaas", "")
    for collection in (f"{url}/", f"{url}.json", bare, f"{bare}.json", f"{bare}/"):
        assert member.request("GET", collection).json() == member.request("GET", url).json(), collection
    for item in (f"{url}/{made['id']}/", f"{url}/{made['id']}.json", f"{bare}/{made['id']}"):
        assert member.request("GET", item).json() == {kind: made}, item


@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_takes_no_body(admin: Api, member: Api, kind: str) -> None:
    id_ = member.make(kind)["id"]
    with unchanged(admin):
        answer = raw(member, "DELETE", kind, b"{}", id_)
        refused(answer, 400, "HTTPBadRequest", "Request body is not supported in DELETE.")


def test_extensions_that_clients_look_for_are_there(member: Api) -> None:
    extensions = {item["alias"]: item for item in member.request("GET", "/v2.0/extensions").json()["extensions"]}
    assert {
        "fwaas_v2", "standard-attr-fwaas-v2", "standard-attr-description", "standard-attr-timestamp",
        "standard-attr-revisions", "revision-if-match", "pagination", "sorting", "project-id", "filter-validation",
        "empty-string-filtering",
    } <= extensions.keys()  # fmt: skip
    for alias, extension in extensions.items():
        assert extension.keys() == {"name", "alias", "description", "updated", "links"}
        assert member.request("GET", f"/v2.0/extensions/{alias}").json() == {"extension": extension}
    assert extensions["fwaas_v2"]["name"] == "FWaaS v2"
    assert member.request("GET", "/v2.0/extensions/bgp").status_code == 404


NO_JSON = "Malformed request body: Cannot understand JSON."
BODIES: dict[str, bytes] = {
    "cut off": b'{"KIND": {"name": "x"}',
    "single quotes": b"{'KIND': {}}",
    "not a number": b'{"KIND": {"name": NaN}}',
    "two values": b'{"KIND": {}} {}',
    "not UTF-8": b'{"KIND": {"name": "\xff"}}',
    "UTF-16": '{"KIND": {}}'.encode("utf-16"),
    "half a surrogate pair": b'{"KIND": {"name": "\\ud800"}}',
    "NUL in a value": b'{"KIND": {"name": "\\u0000"}}',
    "NUL in a key": b'{"KIND": {"na\\u0000me": "x"}}',
    "very deep": b'{"KIND": {"name": ' + b"[" * 100_000,
    "deep": b'{"KIND": {"name": ' + b"[" * 500 + b"]" * 500 + b"}}",
    "deep objects": b'{"KIND": {"name": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}}",
    "a huge number": b'{"KIND": {"name": ' + b"9" * 5000 + b"}}",
    "an infinite number": b'{"KIND": {"name": 1e999}}',
    "a key twice": b'{"KIND": {"name": "a", "name": "b"}}',
    "a key twice, once escaped": b'{"KIND": {"name": "a", "n\\u0061me": "b"}}',
    "an envelope twice": b'{"KIND": {"name": "a"}, "KIND": {"name": "b"}}',
    "a key twice in what is nested": b'{"KIND": {"name": {"a": 1, "a": 2}}}',
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_sound_json_is_refused(admin: Api, member: Api, kind: str, body: str) -> None:
    id_ = member.make(kind)["id"]
    content = BODIES[body].replace(b"KIND", kind.encode())
    with unchanged(admin):
        for answer in (raw(member, "POST", kind, content), raw(member, "PUT", kind, content, id_)):
            refused(answer, 400, "MalformedRequestBody")
            assert answer.json()["NeutronError"]["message"].startswith("Malformed request body: ")
            assert "Traceback" not in answer.text
            assert len(answer.content) < 2000


@pytest.mark.parametrize("body", ["NUL in a value", "a key twice", "deep", "not UTF-8"])
def test_an_action_refuses_such_a_body_too(admin: Api, member: Api, body: str) -> None:
    policy = member.make(POLICY)["id"]
    rule = member.make(RULE)["id"]
    twice = f'{{"firewall_rule_id": "{rule}", "firewall_rule_id": "{rule}"}}'.encode()
    content = twice if body == "a key twice" else BODIES[body]
    with unchanged(admin):
        answer = member.request("PUT", f"{path(POLICY)}/{policy}/insert_rule", content=content)
        refused(answer, 400, "MalformedRequestBody")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("id_", ["x" * 10_000, "%00", "%FF", "%2e%2e", "..%2f", "'; DROP TABLE state", "\u2028"])
def test_an_id_that_cannot_be_is_not_found(admin: Api, member: Api, kind: str, id_: str) -> None:
    url = f"{path(kind)}/{id_}"
    with unchanged(admin):
        for method in ("GET", "PUT", "DELETE"):
            answer = member.request(method, url, json={kind: {"name": "x"}} if method == "PUT" else None)
            assert answer.status_code in (400, 404), answer.status_code
            assert "NeutronError" in answer.json()
            assert "Traceback" not in answer.text


def test_ids_in_bodies_that_cannot_be_are_refused(admin: Api, member: Api) -> None:
    policy = member.make(POLICY)["id"]
    long = "x" * 10_000
    with unchanged(admin):
        refused(member.post(POLICY, firewall_rules=[long]), 400, "HTTPBadRequest")
        refused(member.post(GROUP, ports=[long]), 400, "HTTPBadRequest")
        refused(member.post(GROUP, ingress_firewall_policy_id=long), 400, "HTTPBadRequest")
        not_found(member.insert(policy, firewall_rule_id=long), RULE, long)
        refused(member.post(RULE, project_id=long), 400, "HTTPBadRequest")
        refused(member.post(RULE, **{long: 1}), 400, "HTTPBadRequest")
    member.make(RULE)
    for query in ({"id": long}, {"limit": 1, "marker": long}, {"name": long}):
        answer = member.request("GET", path(RULE), params=query)
        assert answer.status_code == 400 or answer.json()["firewall_rules"] == []


@pytest.mark.parametrize("query", ["name=%00", "marker=%00&limit=1", "tags=%00", "id=%00", "sort_key=%00&sort_dir=asc"])
def test_a_query_with_nul_fails_nowhere(member: Api, query: str) -> None:
    answer = member.request("GET", f"{path(RULE)}?{query}")
    assert answer.status_code in (200, 400)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_beyond_the_limit_is_refused(admin: Api, member: Api, kind: str) -> None:
    huge = json.dumps({kind: {"description": "x" * (2 * 1024 * 1024)}}).encode()
    with unchanged(admin):
        refused(raw(member, "POST", kind, huge), 413, "HTTPRequestEntityTooLarge")


def test_a_body_that_never_ends_is_not_waited_for_by_others(member: Api) -> None:
    place = urlsplit(member.url)
    token = b64encode(b"member:member").decode()
    head = f"POST {path(RULE)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {token}\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection((str(place.hostname), int(place.port or 0)), DEADLINE) as slow:
        slow.sendall(head.encode() + b"{")
        began = time.monotonic()
        assert member.make(RULE)["action"] == "deny"
        assert time.monotonic() - began < 5
    assert len(member.index(RULE)) == 1
