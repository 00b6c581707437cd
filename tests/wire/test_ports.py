"""The inventory of ports over HTTP, and the names that must never reach a host."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from portward.config import DefaultFirewallGroup
from wire.conftest import UNKNOWN, Api, running, settings

PORT = "port"
ROUTER = "network:router_interface"
KEYS = {
    "id",
    "project_id",
    "tenant_id",
    "name",
    "description",
    "network_id",
    "mac_address",
    "fixed_ips",
    "device_owner",
    "device_id",
    "binding:host_id",
    "binding:profile",
    "allowed_address_pairs",
    "port_security_enabled",
    "admin_state_up",
    "status",
    "revision_number",
    "created_at",
    "updated_at",
    "tags",
}
HOSTILE = [
    'eth0"; flush ruleset',
    "../../proc/1/ns/net",
    ".",
    "..",
    ".hidden",
    "a/b",
    "eth0\n",
    "eth 0",
    "eth0;",
    "$(id)",
    "`id`",
    "é",
    "",
    "x" * 65,
]


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["NeutronError"]["type"]


def test_a_port_comes_back_in_neutrons_shape(api: Api) -> None:
    sent = {
        "name": "lan", "network_id": UNKNOWN, "device_owner": ROUTER, "device_id": UNKNOWN, "binding:host_id": "h1",
        "binding:profile": {"netns": "router-1", "device": "eth1", "other": {"deep": [1, None, True]}},
        "fixed_ips": [{"ip_address": "10.0.0.1", "subnet_id": UNKNOWN}, {"ip_address": "2001:db8::1"}],
        "allowed_address_pairs": [{"ip_address": "10.0.0.0/24", "mac_address": "fa:16:3e:00:00:01"},
                                  {"ip_address": "10.0.1.1"}],
        "mac_address": "fa:16:3e:00:00:02", "port_security_enabled": False, "admin_state_up": False,
    }  # fmt: skip
    port = api.make(PORT, **sent)
    assert port.keys() == KEYS
    assert port | sent == port
    assert api.show(PORT, port["id"]) == port
    assert api.index(PORT, name="lan") == [port]
    assert api.index(PORT, **{"binding:host_id": "h2"}) == []


def test_a_mac_address_is_stored_in_its_one_form(api: Api) -> None:
    assert api.make(PORT, mac_address="FA-16-3E-00-00-0A")["mac_address"] == "fa:16:3e:00:00:0a"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_of_a_device_or_namespace_is_refused_and_changes_nothing(api: Api, name: str) -> None:
    port = api.router_port()
    before = api.everything()
    for profile in ({"device": name}, {"device": "eth1", "netns": name}, {"device": name, "netns": "ok"}):
        for answer in (
            api.post(PORT, **{"device_owner": ROUTER, "binding:profile": profile}),
            api.post(PORT, **{"binding:profile": profile}),
            api.put(PORT, port["id"], **{"name": "x", "binding:profile": profile}),
        ):
            assert error(answer) == (400, "InvalidInput")
            assert "no leading dot" in answer.json()["NeutronError"]["message"]
    assert api.everything() == before


@pytest.mark.parametrize("device_id", [item for item in HOSTILE if item not in ("", ".", "..", ".hidden")])
def test_a_hostile_router_id_is_refused_because_it_becomes_the_name_of_a_namespace(api: Api, device_id: str) -> None:
    port = api.router_port()
    vm = api.make(PORT, device_owner="compute:nova", device_id=device_id)
    before = api.everything()
    for answer in (
        api.post(PORT, device_owner=ROUTER, device_id=device_id),
        api.put(PORT, port["id"], device_id=device_id),
        api.put(PORT, vm["id"], device_owner=ROUTER),
    ):
        assert error(answer) == (400, "InvalidInput")
    assert api.everything() == before


@pytest.mark.parametrize(
    "given",
    [
        {"binding:profile": {"device": 7}},
        {"binding:profile": {"device": "eth1", "netns": ["x"]}},
        {"binding:profile": {"netns": "x"}},
        {"binding:profile": "x"},
        {"binding:profile": {"device": "eth1\0"}},
        {"fixed_ips": [{"ip_address": "10.0.0.0/24"}]},
        {"fixed_ips": [{"subnet_id": UNKNOWN}]},
        {"fixed_ips": [{"ip_address": "10.0.0.1", "x": 1}]},
        {"fixed_ips": "10.0.0.1"},
        {"fixed_ips": ["10.0.0.1"]},
        {"fixed_ips": [{"ip_address": "fe80::1%eth0"}]},
        {"fixed_ips": [{"ip_address": "10.0.0.1", "subnet_id": "x"}]},
        {"allowed_address_pairs": [{"ip_address": ""}]},
        {"allowed_address_pairs": [{"ip_address": "x"}]},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.1", "mac_address": "x"}]},
        {"mac_address": "fa:16:3e:00:00"},
        {"mac_address": 7},
        {"device_owner": 7},
        {"device_id": "x" * 256},
        {"binding:host_id": ["h"]},
        {"port_security_enabled": None},
        {"status": "ACTIVE"},
        {"security_groups": []},
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(api: Api, given: dict[str, Any]) -> None:
    port = api.router_port()
    assert api.post(PORT, **given).status_code == 400
    assert api.put(PORT, port["id"], **given).status_code == 400
    assert api.index(PORT) == [port]


def test_null_takes_back_what_a_port_may_lack(api: Api) -> None:
    port = api.router_port(**{"fixed_ips": [{"ip_address": "10.0.0.1"}], "binding:profile": {"device": "eth1"}})
    changed = api.change(
        PORT, port["id"], **{"fixed_ips": None, "binding:profile": None, "binding:host_id": None, "device_id": None}
    )
    assert (changed["fixed_ips"], changed["binding:profile"]) == ([], {})
    assert (changed["binding:host_id"], changed["device_id"], changed["revision_number"]) == ("", "", 1)


def test_an_unknown_port_is_not_found(api: Api) -> None:
    for answer in (api.get(PORT, "lan"), api.put(PORT, UNKNOWN, name="x"), api.delete(PORT, UNKNOWN)):
        assert error(answer) == (404, "PortNotFound")


def test_ports_are_filtered_by_what_clients_ask_for(api: Api) -> None:
    network, subnet = str(uuid4()), str(uuid4())
    one = api.make(
        "port",
        name="one",
        network_id=network,
        mac_address="FA:16:3E:00:00:01",
        device_id="vm-1",
        device_owner="compute:nova",
        fixed_ips=[{"ip_address": "10.0.0.5", "subnet_id": subnet}, {"ip_address": "2001:DB8::5"}],
    )
    other = api.make("port", name="other", fixed_ips=[{"ip_address": "10.0.0.50"}])

    def found(**query: object) -> list[str]:
        return sorted(port["name"] for port in api.index("port", **query))

    assert found(fixed_ips="ip_address=10.0.0.5") == ["one"]
    assert found(fixed_ips="ip_address=2001:db8:0::5") == ["one"]
    assert found(fixed_ips=f"subnet_id={subnet.upper()}") == ["one"]
    assert found(fixed_ips=["ip_address=10.0.0.5", "ip_address=10.0.0.50"]) == ["one", "other"]
    assert found(fixed_ips="ip_address=10.0.0.6") == []
    assert found(network_id=network, device_owner="compute:nova", device_id="vm-1") == ["one"]
    assert found(mac_address="fa-16-3e-00-00-01") == ["one"]
    assert found(id=[one["id"], other["id"]]) == ["one", "other"]
    for nonsense in ("ip_address=%", "ip_address", "subnet_id=x", "subnet_id=", "mac_address=x", ""):
        assert api.request("GET", "/v2.0/ports", params={"fixed_ips": nonsense}).status_code == 400


def test_vm_ports_of_a_time_without_default_groups_are_in_one_from_the_next_start_on(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    with running(chosen) as url:
        api = Api(url)
        ports = [api.make("port", device_owner="compute:nova", project_id=project)["id"] for project in ("p1", "p2")]
        assert api.index("firewall_group") == []
        api.http.close()
    protecting = chosen.model_copy(update={"default_firewall_group": DefaultFirewallGroup()})
    for _ in range(2):
        with running(protecting) as url:
            api = Api(url)
            groups = {group["project_id"]: group["ports"] for group in api.index("firewall_group", name="default")}
            assert (groups["p1"], groups["p2"]) == ([ports[0]], [ports[1]])
            api.http.close()


def test_a_query_for_very_many_addresses_is_refused(api: Api) -> None:
    query = {"fixed_ips": [f"ip_address=10.0.{number // 250}.{number % 250}" for number in range(1100)]}
    answer = api.request("GET", "/v2.0/ports", params=query)
    assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (400, "HTTPBadRequest")
