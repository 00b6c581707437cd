"""The whole document, for the settings of a server."""

from portward import __version__
from portward.api.openapi import calls, resources
from portward.api.openapi.parts import SCHEMAS, Json, answer, errors, object_of
from portward.api.resources import ALL
from portward.config import Settings

_DESCRIPTION = """\
Neutron's FWaaS v2 API, with its ports, and what Portward adds to it. A slash or `.json` at the end of a path is
passed over, and `/fwaas` may be left out before `firewall_rules`, `firewall_policies` and `firewall_groups`.
Another method than those described is answered with 405, another path with 404, in the shape of every error.
What is no HTTP, or has more than 64 KiB of address and headers, is refused with 400 in plain text before it is read.
"""
#: How callers show who they are, by auth mode.
_SCHEMES: dict[str, Json] = {
    "none": {},
    "http_basic": {"http_basic": {"type": "http", "scheme": "basic"}},
    "keystone": {"keystone": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
}


def make_document(settings: Settings) -> Json:
    """The API of a server with ``settings``, as OpenAPI 3.1."""
    schemes = _SCHEMES[settings.auth.mode]
    paths = calls.paths() | _probes(metrics=settings.api.metrics)
    schemas = SCHEMAS | calls.schemas()
    for resource in ALL:
        paths |= resources.paths(resource)
        schemas |= resources.schemas(resource)
    if not schemes:
        _drop_unauthenticated(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Portward",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "security": [{name: []} for name in schemes],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": schemes},
    }


def _probes(*, metrics: bool) -> Json:
    """What those who watch the server read, unasked."""
    health = {
        "operationId": "healthz",
        "tags": ["watching"],
        "summary": "Whether the database answers",
        "security": [],
        "responses": errors((403, 500))
        | {
            "200": answer("It does", object_of({"status": {"const": "ok"}})),
            "503": answer("It does not", object_of({"status": {"const": "unavailable"}, "reason": {"type": "string"}})),
        },
    }
    text = {"text/plain": {"schema": {"type": "string"}}}
    counters = {
        "operationId": "metrics",
        "tags": ["watching"],
        "summary": "What the process counts, as Prometheus reads it",
        "security": [],
        "responses": errors((403, 500)) | {"200": {"description": "Done", "content": text}},
    }
    return {"/healthz": {"get": health}} | ({"/metrics": {"get": counters}} if metrics else {})


def _drop_unauthenticated(paths: Json) -> None:
    """Where nobody is asked, nobody is refused for not being known."""
    for methods in paths.values():
        for name, call in methods.items():
            if name != "parameters":
                call["responses"].pop("401", None)
