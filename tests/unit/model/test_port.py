"""What a port, its names and its kind admit."""

from collections.abc import Callable
from uuid import UUID

import pytest

from portward.model import (
    Binding,
    Direction,
    Group,
    InvalidValue,
    Port,
    PortKind,
    check_device_name,
    check_id,
    check_namespace_name,
    port_kind,
)

ID = str(UUID(int=0xABC))
HOSTILE = [
    "",
    ".",
    "..",
    ".hidden",
    'eth0"; flush ruleset',
    "../../proc/1/ns/net",
    "a/b",
    "a b",
    "a;b",
    "a'b",
    "eth0\n",
    "\neth0",
    "eth0\0",
    "éth0",
    "eth\u0661",
    "eth:0",
]


@pytest.mark.parametrize("check", [check_device_name, check_namespace_name])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(check: Callable[[str], str], name: str) -> None:
    with pytest.raises(InvalidValue):
        check(name)


@pytest.mark.parametrize("name", ["eth0", "qr-0123456789a", "eth0.100", "a@b", "_"])
def test_the_names_that_linux_and_neutron_give_are_accepted(name: str) -> None:
    assert check_device_name(name) == name


def test_a_device_name_has_at_most_15_characters_and_a_namespace_name_64() -> None:
    assert check_device_name("a" * 15)
    assert check_namespace_name(f"qrouter-{ID}")
    assert check_namespace_name("a" * 64)
    for check, length in ((check_device_name, 16), (check_namespace_name, 65)):
        with pytest.raises(InvalidValue):
            check("a" * length)


def test_a_binding_checks_both_its_names() -> None:
    for netns, device in (("qrouter-1", "a/b"), ("a/b", "eth0"), (None, "")):
        with pytest.raises(InvalidValue):
            Binding(netns=netns, device=device)


@pytest.mark.parametrize("value", [ID.upper(), ID + "\n", ID.replace("-", ""), f"{{{ID}}}", "", "x" * 10_000])
def test_only_a_lower_case_uuid_is_an_id(value: str) -> None:
    with pytest.raises(InvalidValue):
        check_id(value)
    with pytest.raises(InvalidValue):
        Port(id=value, kind=PortKind.VM)


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        ("compute:nova", PortKind.VM),
        ("baremetal:none", PortKind.VM),
        ("trunk:subport", PortKind.VM),
        ("network:router_interface", PortKind.ROUTER),
        ("network:ha_router_replicated_interface", PortKind.ROUTER),
        ("network:router_interface_distributed", PortKind.DISTRIBUTED_ROUTER),
        ("network:dhcp", None),
        ("network:router_gateway", None),
        ("trunk:subport2", None),
        ("", None),
    ],
)
def test_the_device_owner_tells_the_kind_of_port(owner: str, kind: PortKind | None) -> None:
    assert port_kind(owner) is kind


def test_each_direction_is_the_others_opposite_and_has_a_policy_of_its_own() -> None:
    group = Group(id="g", ingress_policy_id="in", egress_policy_id="out")
    assert (group.policy_id(Direction.INGRESS), group.policy_id(Direction.EGRESS)) == ("in", "out")
    assert Direction.INGRESS.opposite is Direction.EGRESS
    assert Direction.EGRESS.opposite is Direction.INGRESS
