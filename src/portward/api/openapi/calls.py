"""The calls that are no resource's: actions on policies and groups, explain, hosts, and what clients read first."""

import msgspec

from portward.api import address_converters as to_address
from portward.api import converters as to
from portward.api.converter import or_null
from portward.api.openapi.parts import Json, in_path, object_of, operation, ref, unasked
from portward.api.openapi.resources import whole_names
from portward.api.resources import ADDRESS_GROUPS, GROUPS, POLICIES, RULES
from portward.model import Direction
from portward.service.effective import HIDDEN_NAME
from portward.service.explain import Explanation
from portward.service.status import Realisation

_TEXT = {"type": "string"}
_LINK = object_of({"rel": _TEXT, "href": {"type": "string", "format": "uri"}})
_VERSION = object_of(
    {"id": {"const": "v2.0"}, "status": {"const": "CURRENT"}, "links": {"type": "array", "items": _LINK}}
)
_EXTENSION = object_of(
    {
        "name": _TEXT,
        "alias": _TEXT,
        "description": _TEXT,
        "updated": {"type": "string", "format": "date-time"},
        "links": {"type": "array", "maxItems": 0},
    }
)
_ID = in_path("id", "The item's id")
_MOMENT = {"type": ["string", "null"], "format": "date-time"}
_HOST = object_of(
    {
        "name": _TEXT,
        "silent": {"type": "boolean", "description": "Its agent has not asked for 75 s, or never"},
        "revoked": {"type": "boolean", "description": "Its token was taken back"},
        "realised_generation": {"type": ["integer", "null"]},
        "last_poll_at": _MOMENT,
        "created_at": {"type": "string", "format": "date-time"},
    }
)
_COUNT = {"type": ["integer", "null"], "minimum": 0}
_COUNTER = object_of(
    {
        "rule_id": _TEXT,
        "rule_name": _TEXT,
        "action": to.action.shows,
        "packets": _COUNT
        | {"description": "Connections where it allows, else packets; null: a rule of a project that is not yours"},
        "bytes": _COUNT | {"description": "Of those packets; of a connection, of its first"},
        "last": _MOMENT | {"description": "When it was last seen to have decided, to some ten seconds"},
        "since": _MOMENT | {"description": "When counting began; null: no host has counted it yet"},
    }
)
#: In place of what the caller may not see.
_HIDDEN = object_of({"id": {"type": "null"}, "name": {"const": HIDDEN_NAME}})
_NEIGHBOUR = {"type": ["string", "null"], "description": 'Id of a rule; "" and null: none'}
_RULE_ID = to.string(36).takes | {"description": "Id of the rule"}


def schemas() -> Json:
    """What stands in ``components`` for them."""
    _, found = msgspec.json.schema_components([Realisation, Explanation], ref_template="#/components/schemas/{name}")
    # The names of hosts are left out for those who may not know them.
    found["PortRealisation"]["required"] = [name for name in found["PortRealisation"]["required"] if name != "host"]
    return found


def paths() -> Json:
    """Their paths."""
    policy = {"allOf": [ref("firewall_policy"), {"required": whole_names(POLICIES.schema)}]}
    refusals = (404, 409, 412)
    addresses = {"allOf": [ref("address_group"), {"required": whole_names(ADDRESS_GROUPS.schema)}]}
    addresses_path = f"/v2.0{ADDRESS_GROUPS.path}/{{id}}"
    policy_path, group_path = f"/v2.0{POLICIES.path}/{{id}}", f"/v2.0{GROUPS.path}/{{id}}"
    insertion = object_of({"firewall_rule_id": _RULE_ID}, {"insert_before": _NEIGHBOUR, "insert_after": _NEIGHBOUR})
    return {
        f"{policy_path}/insert_rule": {
            "parameters": [_ID],
            "put": operation(
                "insert_rule",
                "firewall_policies",
                "Put a rule into a policy: just before `insert_before`, else just after `insert_after`, else first",
                200,
                policy,
                body=insertion,
                refusals=refusals,
            ),
        },
        f"{policy_path}/remove_rule": {
            "parameters": [_ID],
            "put": operation(
                "remove_rule",
                "firewall_policies",
                "Take a rule out of a policy",
                200,
                policy,
                body=object_of({"firewall_rule_id": _RULE_ID}),
                refusals=refusals,
            ),
        },
        f"{policy_path}/counters": {
            "parameters": [_ID],
            "get": operation(
                "get_firewall_policy_counters",
                "firewall_policies",
                "How often each rule of a policy decided, on all hosts together, in the policy's order",
                200,
                object_of({"counters": {"type": "array", "items": _COUNTER}}),
                refusals=(404, 412),
            ),
        },
        **{
            f"{addresses_path}/{action}": {
                "parameters": [_ID],
                "put": operation(
                    action,
                    "address_groups",
                    text,
                    200,
                    object_of({"address_group": addresses}),
                    body=object_of({"addresses": to_address.prefix_list.takes}),
                    refusals=refusals,
                ),
            }
            for action, text in (
                ("add_addresses", "Add prefixes to an address group"),
                ("remove_addresses", "Take prefixes out of an address group"),
            )
        },
        f"{group_path}/realisation": {
            "parameters": [_ID],
            "get": operation(
                "get_firewall_group_realisation",
                "firewall_groups",
                "What became of each port of a group on its host, and why",
                200,
                object_of({"realisation": ref("Realisation")}),
                refusals=(404, 412),
            ),
        },
        "/v2.0/fwaas/effective/{port_id}": {
            "parameters": [in_path("port_id", "The port's id")],
            "get": operation(
                "get_effective",
                "effective",
                "Which groups decide for a port, in their order, with the rules that the caller may see",
                200,
                object_of({"effective": _effective()}),
                refusals=(404,),
            ),
        },
        "/v2.0/fwaas/explain": {
            "post": operation(
                "explain",
                "explain",
                "Which rule decides a packet at a port, and why none before it does",
                200,
                object_of({"explanation": ref("Explanation")}),
                body=object_of({"explain": _question()}),
                refusals=(404, 409),
            )
        },
        "/v2.0/fwaas/hosts": {
            "get": operation(
                "list_hosts",
                "hosts",
                "The hosts, and what their agents last said",
                200,
                object_of({"hosts": {"type": "array", "items": _HOST}}),
            )
        },
    } | _discovery()


def _effective() -> Json:
    shown = {item.name: item.schema for item in GROUPS.schema.attributes}
    named = ("position", "admin_state_up", "ingress_firewall_policy_id", "egress_firewall_policy_id")
    rule = {"allOf": [ref("firewall_rule"), {"required": whole_names(RULES.schema)}]}
    rules = {"type": "array", "items": {"anyOf": [rule, _HIDDEN]}}
    group = object_of(
        {
            "id": {"type": ["string", "null"], "description": "Null: a group that the caller may not see"},
            "name": _TEXT,
            "stratum": shown["stratum"],
            **{name: or_null(shown[name]) for name in named},
            **{f"{direction}_rules": rules for direction in Direction},
        }
    )
    return object_of({"port_id": _TEXT, "groups": {"type": "array", "items": group}})


def _question() -> Json:
    def number(highest: int) -> Json:
        return {"type": ["integer", "null"], "minimum": 0, "maximum": highest}

    packet = object_of(
        {"source": _TEXT, "destination": _TEXT, "protocol": {"type": ["string", "integer"]}},
        {
            "source_port": number(65535),
            "destination_port": number(65535),
            "icmp_type": number(255),
            "icmp_code": number(255),
        },
    )
    return object_of({"port_id": _TEXT, "direction": {"enum": ["ingress", "egress"]}, "packet": packet})


def _discovery() -> Json:
    resource = object_of({"name": _TEXT, "collection": _TEXT, "links": {"type": "array", "items": _LINK}})
    version = object_of({"version": _VERSION, "resources": {"type": "array", "items": resource}})
    extensions = object_of({"extensions": {"type": "array", "items": _EXTENSION}})
    return {
        "/": {
            "get": unasked(
                "versions", "The versions of the API", object_of({"versions": {"type": "array", "items": _VERSION}})
            )
        },
        "/v2.0": {"get": unasked("version", "The version and its resources", version)},
        "/openapi.json": {"get": unasked("openapi", "This document", {"type": "object"})},
        "/v2.0/extensions": {
            "get": operation("list_extensions", "discovery", "What there is beyond Neutron's core", 200, extensions)
        },
        "/v2.0/extensions/{alias}": {
            "parameters": [in_path("alias", "The extension's short name")],
            "get": operation(
                "get_extension",
                "discovery",
                "One extension",
                200,
                object_of({"extension": _EXTENSION}),
                refusals=(404,),
            ),
        },
    }
