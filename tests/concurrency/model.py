"""The plain model's values: users, what is stored, calls and their answers.

It knows neither time nor hosts, so an object's times and a group's status are not compared; all else is. Values are
never changed in place: a state that was left can be gone back to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

RULE, POLICY, GROUP, PORT = "firewall_rule", "firewall_policy", "firewall_group", "port"
KINDS = (RULE, POLICY, GROUP, PORT)
NAMES = {RULE: "FirewallRule", POLICY: "FirewallPolicy", GROUP: "FirewallGroup", PORT: "Port"}
VM, ROUTER, OTHER = "compute:nova", "network:router_interface", "network:dhcp"
#: What is compared of the objects in an answer.
_COMPARED = {
    RULE: ("name", "shared", "action", "enabled", "firewall_policy_id"),
    POLICY: ("name", "shared", "audited", "firewall_rules"),
    GROUP: (
        "name",
        "shared",
        "admin_state_up",
        "ingress_firewall_policy_id",
        "egress_firewall_policy_id",
        "ports",
    ),
    PORT: ("name", "device_owner"),
}
#: The attributes of a group that name policies.
POLICIES = ("ingress_firewall_policy_id", "egress_firewall_policy_id")


@dataclass(frozen=True)
class User:
    """Who calls."""

    name: str
    project: str
    is_admin: bool = False

    def sees(self, one: "Item") -> bool:
        """Whether it is there for this user."""
        return self.is_admin or one.project == self.project or bool(one.kind != PORT and one["shared"])


@dataclass(frozen=True)
class Item:
    """A stored object. ``values`` are its attributes, sorted, lists as tuples."""

    kind: str
    id: str
    project: str
    values: tuple[tuple[str, Any], ...]
    revision: int = 0
    tags: tuple[str, ...] = ()
    is_default: bool = False

    def __getitem__(self, name: str) -> Any:
        return dict(self.values)[name]

    def with_values(self, values: Mapping[str, Any]) -> "Item":
        """The same object with these attributes changed."""
        return replace(self, values=tuple(sorted((dict(self.values) | frozen(values)).items())))

    def touched(self) -> "Item":
        """One revision on."""
        return replace(self, revision=self.revision + 1)


@dataclass(frozen=True)
class Call:
    """A request. ``action``: "create", "update", "delete", "show", "insert_rule", "remove_rule" or "tags"."""

    user: User
    action: str
    kind: str
    id: str = ""  # of the item; "" of a collection
    bodies: tuple[Mapping[str, Any], ...] = ({},)  # more than one: bulk
    if_match: int | None = None


@dataclass(frozen=True)
class Answer:
    """What the API said: objects, or the type of its refusal, "" if it did not refuse."""

    objects: tuple[Mapping[str, Any], ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class State:
    """All that is stored, by id."""

    items: dict[str, Item] = field(default_factory=dict)

    def shown(self, item: Item, user: User) -> dict[str, Any]:
        """What is compared of ``item``, as ``user`` sees it."""
        values = dict(item.values)
        if item.kind == RULE:
            places = (one.id for one in self.of(POLICY) if item.id in one["firewall_rules"] and user.sees(one))
            values["firewall_policy_id"] = tuple(sorted(places)) or None
        common = {"id": item.id, "project_id": item.project, "revision_number": item.revision, "tags": item.tags}
        return {name: values[name] for name in _COMPARED[item.kind]} | common

    def of(self, kind: str) -> list[Item]:
        """All objects of ``kind``."""
        return [one for one in self.items.values() if one.kind == kind]

    def key(self) -> frozenset[Item]:
        """The same for the same states."""
        return frozenset(self.items.values())

    def with_items(self, items: Iterable[Item]) -> "State":
        """These objects made, or put in place of those of the same ids."""
        return State(self.items | {one.id: one for one in items})

    def without(self, id_: str) -> "State":
        """One object less."""
        return State({key: one for key, one in self.items.items() if key != id_})

    def group_of(self, port_id: str) -> Item | None:
        """The group that covers the port."""
        return next((one for one in self.of(GROUP) if port_id in one["ports"]), None)

    def default_group(self, project: str) -> Item:
        """The project's."""
        return next(one for one in self.of(GROUP) if one.is_default and one.project == project)


def compared(kind: str, one: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of an object in an answer."""
    return frozen({name: one[name] for name in (*_COMPARED[kind], "id", "project_id", "revision_number", "tags")})


def stored(kind: str, one: Mapping[str, Any], *, is_default: bool) -> Item:
    """The object that an answer tells of."""
    names = [name for name in _COMPARED[kind] if name != "firewall_policy_id"]
    values = tuple(sorted(frozen({name: one[name] for name in names}).items()))
    item = Item(kind, one["id"], one["project_id"], values, is_default=is_default)
    return replace(item, revision=one["revision_number"], tags=tuple(one["tags"]))


def frozen(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with tuples for lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
