"""What a lab consists of, before anything is made."""

import pytest

from portward.lab import LabError, plan
from portward.model import InvalidValue, PortKind, check_device_name, check_namespace_name


def test_devices_and_namespaces_are_named_as_neutron_names_them() -> None:
    state = plan("try", 2)
    assert state.router_netns == f"qrouter-{state.router_id}"
    for port in state.ports:
        prefix = "qg-" if port.name == "outside" else "qr-"
        assert check_device_name(port.device) == prefix + port.port_id[:11]
        assert port.netns == state.router_netns


@pytest.mark.parametrize("networks", [2, 3])
def test_there_is_a_host_for_each_network_and_one_outside(networks: int) -> None:
    state = plan("try", networks)
    assert [host.name for host in state.hosts] == [*["red", "blue", "green"][:networks], "outside"]
    assert [port.name for port in state.ports] == [host.name for host in state.hosts]
    assert [check_namespace_name(host.netns) for host in state.hosts] == [f"pw-try-{host.name}" for host in state.hosts]


def test_every_address_of_a_lab_is_used_once() -> None:
    state = plan("try", 3)
    addresses = [a for host in state.hosts for a in host.addresses] + [
        a for port in state.ports for a in port.fixed_ips
    ]
    assert len(addresses) == len(set(addresses)) == 4 * 8 + 4 * 2


def test_two_labs_share_no_id() -> None:
    ids = [(port.port_id, port.network_id, port.mac) for name in ("one", "two") for port in plan(name, 3).ports]
    assert len({value for values in ids for value in values}) == 3 * len(ids)


def test_a_port_of_the_router_is_one_that_a_group_can_hold() -> None:
    port = plan("try", 2).ports[0]
    model = port.to_model()
    assert model.kind is PortKind.ROUTER
    assert model.id == port.port_id
    assert model.binding is not None
    assert (model.binding.netns, model.binding.device) == (port.netns, port.device)
    assert model.fixed_ips == port.fixed_ips


def test_the_gateway_is_a_port_that_no_group_can_hold() -> None:
    with pytest.raises(LabError, match="network:router_gateway"):
        plan("try", 2).ports[-1].to_model()


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/../b", "a" * 21, "a;b", "a\n"])
def test_a_name_that_could_break_a_path_or_a_command_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue):
        plan(name, 2)


@pytest.mark.parametrize("networks", [0, 1, 4])
def test_a_number_of_networks_that_has_no_names_is_refused(networks: int) -> None:
    with pytest.raises(LabError, match="2"):
        plan("try", networks)
