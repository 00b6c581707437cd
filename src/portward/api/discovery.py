"""What clients read before they work: version documents and the list of extensions."""

from typing import Any

from starlette.datastructures import URL

_UPDATED = "2026-11-01T00:00:00-00:00"
#: alias, name, description of what is implemented; Neutron's where Neutron has it.
_EXTENSIONS = (
    ("fwaas_v2", "FWaaS v2", "Provides support for firewall-as-a-service version 2"),
    ("standard-attr-fwaas-v2", "FWaaS v2 standard attributes", "Standard attributes of FWaaS v2 resources"),
    ("standard-attr-description", "standard-attr-description", "Resources have a description"),
    ("standard-attr-timestamp", "Resource timestamps", "Resources have created_at and updated_at"),
    ("standard-attr-revisions", "Resource revision numbers", "Resources have a revision_number"),
    ("project-id", "project_id field enabled", "project_id may be used instead of tenant_id"),
    ("filter-validation", "Filter parameters validation", "Unknown filters of lists are refused"),
    ("empty-string-filtering", "Empty String Filtering Extension", "Lists can be filtered by empty strings"),
    ("fwaas-realisation", "Realisation of firewall groups", "What became of each port of a group on its host, and why"),
    ("fwaas-explain", "Explanation of decisions", "Which rule decides a packet at a port, and why none before it"),
)


def root(url: URL) -> dict[str, Any]:
    """The document at ``/``."""
    return {"versions": [_version(url)]}


def version(url: URL, collections: list[tuple[str, str]]) -> dict[str, Any]:
    """The document at ``/v2.0``; ``collections`` are pairs of a resource's singular and its path."""
    resources = [
        {
            "name": singular,
            "collection": path.rpartition("/")[2],
            "links": [{"rel": "self", "href": f"{_base(url)}/v2.0{path}"}],
        }
        for singular, path in collections
    ]
    return {"version": _version(url), "resources": resources}


def extensions() -> list[dict[str, Any]]:
    """All that is implemented beyond Neutron's core."""
    return [
        {"name": name, "alias": alias, "description": description, "updated": _UPDATED, "links": []}
        for alias, name, description in _EXTENSIONS
    ]


def _version(url: URL) -> dict[str, Any]:
    return {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{_base(url)}/v2.0/"}]}


def _base(url: URL) -> str:
    """Where the client found us: clients take the link as the address of all further calls."""
    return f"{url.scheme}://{url.netloc}"
