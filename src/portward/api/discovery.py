"""What clients read before they work: version documents and the list of extensions."""

import re
from typing import Any

from starlette.requests import Request

_UPDATED = "2026-11-01T00:00:00-00:00"
#: alias, name, description of what is implemented; Neutron's where Neutron has it.
_EXTENSIONS = (
    ("fwaas_v2", "FWaaS v2", "Provides support for firewall-as-a-service version 2"),
    ("standard-attr-fwaas-v2", "FWaaS v2 standard attributes", "Standard attributes of FWaaS v2 resources"),
    ("standard-attr-description", "standard-attr-description", "Resources have a description"),
    ("standard-attr-timestamp", "Resource timestamps", "Resources have created_at and updated_at"),
    ("standard-attr-revisions", "Resource revision numbers", "Resources have a revision_number"),
    ("revision-if-match", "If-Match constraints based on revision_number", "Changes may name the revision they mean"),
    ("standard-attr-tag", "Tag support for resources with standard attributes", "Resources bear tags"),
    ("pagination", "Pagination support", "Lists come in pages, with links to those around"),
    ("sorting", "Sorting support", "Lists are sorted by any scalar attribute"),
    ("project-id", "project_id field enabled", "project_id may be used instead of tenant_id"),
    ("filter-validation", "Filter parameters validation", "Unknown filters of lists are refused"),
    ("empty-string-filtering", "Empty String Filtering Extension", "Lists can be filtered by empty strings"),
    ("address-group", "Address group", "Named lists of addresses, for rules to refer to"),
    ("fwaas-address-groups", "Address groups in firewall rules", "Rules take address groups as source and destination"),
    (
        "fwaas-remote-groups",
        "Firewall groups in firewall rules",
        "Rules take the VMs of a group as source and destination",
    ),
    ("fwaas-icmp", "ICMP types in firewall rules", "Rules take a type and a code of ICMP and ICMPv6"),
    ("fwaas-strata", "Strata of firewall groups", "Groups that admins assign above and below the tenants' own"),
    ("fwaas-effective", "Effective firewall groups", "Which groups decide for a port, in order, with their rules"),
    ("fwaas-realisation", "Realisation of firewall groups", "What became of each port of a group on its host, and why"),
    ("fwaas-hosts", "Hosts of the firewall", "Which hosts enforce firewall groups, and which are silent"),
    ("fwaas-counters", "Counters of firewall rules", "How often each rule of a policy decided, and when last"),
    ("fwaas-explain", "Explanation of decisions", "Which rule decides a packet at a port, and why none before it"),
)


def base_address(request: Request, *, trust_forwarded: bool) -> str:
    """Where the client found us, as ``http://host:port/prefix``: clients take links as addresses of further calls.

    A proxy says it in ``X-Forwarded-Proto``, ``-Host`` and ``-Prefix``. Anybody else could say so too, so these count
    only if ``trust_forwarded``.
    """
    scheme, host, prefix = request.url.scheme, request.url.netloc, ""
    if trust_forwarded:
        scheme = _forwarded(request, "proto", r"https?") or scheme
        host = _forwarded(request, "host", r"[A-Za-z0-9._:\[\]-]+") or host
        prefix = (_forwarded(request, "prefix", r"(/[A-Za-z0-9._~-]+)+/?") or "").rstrip("/")
    return f"{scheme}://{host}{prefix}"


def root(base: str) -> dict[str, Any]:
    """The document at ``/``."""
    return {"versions": [_version(base)]}


def version(base: str, collections: list[tuple[str, str]]) -> dict[str, Any]:
    """The document at ``/v2.0``; ``collections`` are pairs of a resource's singular and its path."""
    resources = [
        {
            "name": singular,
            "collection": path.rpartition("/")[2],
            "links": [{"rel": "self", "href": f"{base}/v2.0{path}"}],
        }
        for singular, path in collections
    ]
    return {"version": _version(base), "resources": resources}


def extensions() -> list[dict[str, Any]]:
    """All that is implemented beyond Neutron's core."""
    return [
        {"name": name, "alias": alias, "description": description, "updated": _UPDATED, "links": []}
        for alias, name, description in _EXTENSIONS
    ]


def _version(base: str) -> dict[str, Any]:
    return {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{base}/v2.0/"}]}


def _forwarded(request: Request, name: str, pattern: str) -> str | None:
    """What the proxy nearest to the client said."""
    value = request.headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip()
    return value if re.fullmatch(pattern, value) else None
