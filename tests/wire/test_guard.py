"""A tenant tries every call that the OpenAPI document has against what admins assigned; nothing that decides moves.

The calls are made of the document: every path and method that changes something, every id that the tenant could know
in its place, and for bodies every attribute with values of every kind that its schema speaks of.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import msgspec
import pytest

from portward.api.openapi import make_document
from portward.api.resources import ALL
from portward.channel.messages import encode
from portward.config import Quotas, Settings
from portward.model import Stratum
from portward.service.address_sets import members_of
from portward.service.hosts import host_index
from portward.service.policy_values import policies_by_id
from portward.store import Store
from wire.conftest import Api, running, settings
from wire.contract.cloud import GROUP, POLICY, PORT, RULE, Personas, write_users

DOCUMENT = make_document(Settings())
ADDRESSES = "address_group"
WRITING = ("post", "put", "delete")
CALLS = [
    (method, path)
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if method in WRITING and path != "/v2.0/fwaas/explain"  # a question, and no change
]
#: What a string may be that is no id, whatever it is for.
WORDS = ("", "x", "any", "tcp", "10.9.9.9", "2001:db8::/32", "80", "deny", "pass")
NUMBERS = (0, 6, 7)
#: By a word in the name of an attribute, the kind of what it names by ids.
NAMED = {
    "rule": RULE,
    "insert": RULE,
    "polic": POLICY,
    "ports": PORT,
    "firewall_group": GROUP,
    "address_group": ADDRESSES,
}
REFUSED = {400, 403, 404, 409}


class Assigned:
    """Two admin groups and a baseline group over the ports of project p1, and all that they use.

    The first is of p1 itself, as is what it uses; the second is an admin's and shared, the third an admin's and not.
    Each has a rule that names an address group, and one that names a firewall group.
    """

    def __init__(self, url: str, store: Store) -> None:
        self.who = Personas(url)
        self.store = store
        admin = self.who.admin
        vm = {"device_owner": "compute:nova", "fixed_ips": [{"ip_address": "10.1.0.1"}]}
        self.ports = [admin.router_port(project_id="p1", **one)["id"] for one in ({}, vm)]
        self.guarded: dict[str, list[str]] = {RULE: [], POLICY: [], GROUP: [], ADDRESSES: [], PORT: self.ports}
        self._assign(admin, "p1", Stratum.ADMIN, shared=False, ports=self.ports)
        self._assign(admin, "admin", Stratum.ADMIN, shared=True, scope="projects", project_ids=["p1"])
        self._assign(admin, "admin", Stratum.BASELINE, shared=False, scope="all")

    def _assign(self, admin: Api, project: str, stratum: Stratum, *, shared: bool, **covers: Any) -> None:
        common = {"project_id": project, "shared": shared}
        body = {ADDRESSES: {"addresses": ["10.2.0.0/16"], **common}}
        addresses = admin.request("POST", "/v2.0/address-groups", json=body).json()[ADDRESSES]["id"]
        named = admin.make(GROUP, stratum=stratum.value, ports=[self.ports[1]], **common)["id"]
        ends = {"source_address_group_id": addresses}, {"destination_firewall_group_id": named}
        rules = [admin.make(RULE, action="allow", protocol="tcp", **end, **common)["id"] for end in ends]
        policy = admin.make(POLICY, firewall_rules=rules, **common)["id"]
        applied = {"ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
        group = admin.make(GROUP, stratum=stratum.value, position=5, **applied, **common, **covers)["id"]
        used = {RULE: rules, POLICY: [policy], GROUP: [group, named], ADDRESSES: [addresses]}
        for kind, ids in used.items():
            self.guarded[kind] += ids

    def deciding(self) -> bytes:
        """All that the groups of the strata admin and baseline decide by, port by port, as the hosts get it."""
        with self.store.read() as session:
            covered = host_index(session, "h1").index.ports
            groups = {
                item.port.id: [group for group in item.groups if group.stratum is not Stratum.TENANT]
                for item in covered
            }
            used = {
                id_
                for of_port in groups.values()
                for group in of_port
                for id_ in (group.ingress_policy_id, group.egress_policy_id)
                if id_ is not None
            }
            policies = policies_by_id(session, sorted(used))
            sets = members_of(
                session, {id_ for policy in policies.values() for rule in policy.rules for id_ in rule.sets}
            )
            return encode([sorted(groups.items()), [policies[id_] for id_ in sorted(policies)], sorted(sets.items())])


@pytest.fixture(scope="module")
def assigned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assigned]:
    directory = tmp_path_factory.mktemp("guard")
    unlimited = Quotas(firewall_group=-1, firewall_policy=-1, firewall_rule=-1, address_group=-1)
    chosen = settings(directory).model_copy(update={"auth": write_users(directory), "quotas": unlimited})
    with running(chosen) as url:
        store = Store(chosen.database.url)
        made = Assigned(url, store)
        yield made
        made.who.close()
        store.close()


@pytest.fixture
def own(assigned: Assigned) -> dict[str, list[str]]:
    """What the tenant made: it may do with it what it likes."""
    member = assigned.who.member
    rules = [member.make(RULE, action="allow")["id"] for _ in range(2)]
    policy = member.make(POLICY, firewall_rules=rules)["id"]
    answer = member.request("POST", "/v2.0/address-groups", json={ADDRESSES: {"addresses": ["10.9.0.0/16"]}})
    addresses = answer.json()[ADDRESSES]["id"]
    return {
        RULE: rules,
        POLICY: [policy],
        ADDRESSES: [addresses],
        GROUP: [member.make(GROUP, ingress_firewall_policy_id=policy)["id"]],
    }


def kind_of(path: str) -> str | None:
    """The kind of the items below ``path``."""
    return next((item.schema.singular for item in ALL if path.startswith(f"/v2.0{item.path}")), None)


def values(schema: dict[str, Any], known: dict[str, list[str]], name: str = "") -> list[Any]:
    """Values of every kind that ``schema``, of the attribute ``name``, speaks of, many of which it does not admit."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return list(schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return [value for one in schema[choice] for value in values(one, known, name)]
    types = schema.get("type", "object")
    found: list[Any] = []
    for type_ in [types] if isinstance(types, str) else types:
        if type_ == "object":
            found += objects(schema, known)
        elif type_ == "array":
            found += [[], *([item] for item in values(schema["items"], known, name))]
        elif type_ == "string":
            kind = next((kind for word, kind in NAMED.items() if word in name), None)
            found += known.get(kind or "", WORDS)
        else:
            found += {"integer": NUMBERS, "boolean": (True, False), "null": (None,)}[type_]
    return found


def objects(schema: dict[str, Any], known: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Objects with what they must have, in all combinations, and of some of these with one of what they may have."""
    properties = {name: values(one, known, name) for name, one in schema.get("properties", {}).items()}
    required = schema.get("required", [])
    whole = [dict(zip(required, chosen, strict=True)) for chosen in product(*(properties[name] for name in required))]
    optional = [(name, value) for name in properties if name not in required for value in properties[name]]
    some = dict.fromkeys((0, len(whole) - 1))  # of what is the admin's, and of the tenant's own
    return [*whole, *(whole[place] | {name: value} for place in some for name, value in optional)]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_no_call_of_a_tenant_changes_what_admins_assigned(
    assigned: Assigned, own: dict[str, list[str]], method: str, path: str
) -> None:
    before = assigned.deciding()
    kind = kind_of(path)
    guarded = assigned.guarded.get(kind or "", []) if "{id}" in path else []
    known = {kind: [*ids, *own.get(kind, ())] for kind, ids in assigned.guarded.items()}
    content = DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})
    bodies = values(content["application/json"]["schema"], known) if content else [None]
    for id_ in [*guarded, *own.get(kind or "", [])] if "{id}" in path else [""]:
        for body in bodies:
            sent = None if body is None else msgspec.json.encode(body)
            answer = assigned.who.member.request(method.upper(), path.format(id=id_, tag="x"), content=sent)
            assert answer.status_code < 500, (body, answer.text)
            if id_ in guarded and "/tags" not in path:  # tags decide nothing
                assert answer.status_code in REFUSED, (id_, body, answer.text)
    assert assigned.deciding() == before


def test_the_test_would_see_what_an_admin_changes(assigned: Assigned) -> None:
    admin = assigned.who.admin
    rule = assigned.guarded[RULE][0]
    before = assigned.deciding()
    addresses = f"/v2.0/address-groups/{assigned.guarded[ADDRESSES][0]}"
    admin.request("PUT", f"{addresses}/add_addresses", json={"addresses": ["10.3.0.0/16"]})
    assert assigned.deciding() != before
    admin.request("PUT", f"{addresses}/remove_addresses", json={"addresses": ["10.3.0.0/16"]})
    assert assigned.deciding() == before
    admin.change(RULE, rule, action="reject")
    assert assigned.deciding() != before
    admin.change(RULE, rule, action="allow")
    for position in (4, 5):
        admin.change(GROUP, assigned.guarded[GROUP][0], position=position)
        changed = assigned.deciding()
    admin.change(GROUP, assigned.guarded[GROUP][1], admin_state_up=False)
    assert assigned.deciding() != changed
    admin.change(GROUP, assigned.guarded[GROUP][1], admin_state_up=True)
