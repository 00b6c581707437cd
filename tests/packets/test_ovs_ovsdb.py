"""What the database of a real switch says of bridge and interfaces, and the connection to it."""

import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from packets.bare_switch import PATIENCE, BareSwitch, bare_switch, until
from portward.dataplane.openvswitch.ovsdb import BridgeView, InterfaceView, KeptZone, Ovsdb
from portward.dataplane.protocol import DataplaneError

IFACE_ID = "9a3f7a1e-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def switch() -> Iterator[BareSwitch]:
    with bare_switch() as made:
        made.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")
        yield made


@pytest.fixture
def ovsdb(switch: BareSwitch) -> Iterator[Ovsdb]:
    database = Ovsdb(switch.run_dir)
    follow(database, lambda: database.connected)
    yield database
    database.close()


def follow(database: Ovsdb, holds: object) -> None:
    """Update whenever the descriptor says so, and only then, until ``holds()``."""
    (fd,) = database.filenos()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + PATIENCE
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not seen: {database.bridge('br-int')}"
        if poll.poll(1000 * (deadline - time.monotonic())):
            database.update()


def view(database: Ovsdb) -> BridgeView:
    found = database.bridge("br-int")
    assert found is not None
    return found


def interface(database: Ovsdb, name: str) -> InterfaceView | None:
    return next((found for found in view(database).interfaces if found.name == name), None)


def test_a_bridge_is_seen_with_its_mode_and_interfaces(ovsdb: Ovsdb) -> None:
    bridge = view(ovsdb)
    assert (bridge.fail_mode, bridge.datapath_type) == ("secure", "netdev")
    assert [(found.name, found.type) for found in bridge.interfaces] == [("br-int", "internal")]
    assert ovsdb.bridge("br-none") is None


def test_an_interface_is_followed_as_it_comes_changes_and_goes(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    switch.ip("link add vm1 type veth peer name vm1x")
    switch.vsctl(
        "add-port", "br-int", "vm1", "tag=7", "--", "set", "interface", "vm1", f"external_ids:iface-id={IFACE_ID}"
    )
    follow(ovsdb, lambda: (seen := interface(ovsdb, "vm1")) is not None and seen.ofport is not None)
    seen = interface(ovsdb, "vm1")
    assert seen is not None
    assert (seen.iface_id, seen.tag, seen.trunk, seen.bonded, seen.error) == (IFACE_ID, 7, False, False, None)
    switch.vsctl("set", "interface", "vm1", "ofport_request=77")
    follow(ovsdb, lambda: (seen := interface(ovsdb, "vm1")) is not None and seen.ofport == 77)
    switch.vsctl("del-port", "br-int", "vm1")
    follow(ovsdb, lambda: interface(ovsdb, "vm1") is None)
    switch.ip("link del vm1")


def test_an_interface_that_goes_to_another_port_is_seen_there(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    switch.ip("link add b1 type veth peer name b2", "link add b3 type veth peer name b4")
    switch.vsctl("add-bond", "br-int", "bond", "b1", "b2", "b3")
    follow(ovsdb, lambda: interface(ovsdb, "b3") is not None)
    number = switch.vsctl("get", "interface", "b3", "_uuid").strip()
    switch.vsctl("remove", "port", "bond", "interfaces", number, "--", "--id=@p", "create", "port", "name=b3", "tag=9",
                 f"interfaces={number}", "--", "add", "bridge", "br-int", "ports", "@p")  # fmt: skip
    follow(ovsdb, lambda: (seen := interface(ovsdb, "b3")) is not None and seen.tag == 9)
    assert (seen := interface(ovsdb, "b3")) is not None
    assert not seen.bonded
    switch.vsctl("set", "interface", "b3", f"external_ids:iface-id={IFACE_ID}")
    follow(ovsdb, lambda: (seen := interface(ovsdb, "b3")) is not None and seen.iface_id == IFACE_ID)
    switch.vsctl("del-port", "br-int", "bond", "--", "del-port", "br-int", "b3")
    follow(ovsdb, lambda: len(view(ovsdb).interfaces) == 1)
    switch.ip("link del b1", "link del b3")


def test_an_interface_without_a_device_has_no_ofport_and_says_why(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    switch.vsctl("--no-wait", "add-port", "br-int", "absent")
    follow(ovsdb, lambda: (seen := interface(ovsdb, "absent")) is not None and seen.error is not None)
    seen = interface(ovsdb, "absent")
    assert seen is not None
    assert seen.ofport is None
    assert "absent" in (seen.error or "")
    assert seen.trunk
    switch.vsctl("del-port", "br-int", "absent")


@pytest.mark.parametrize(
    ("settings", "trunk"),
    [((), True), (("tag=5",), False), (("tag=5", "vlan_mode=trunk"), True), (("vlan_mode=access",), False),
     (("tag=5", "vlan_mode=native-untagged"), True)],
)  # fmt: skip
def test_what_carries_tagged_frames_is_told_by_mode_and_tag(
    switch: BareSwitch, ovsdb: Ovsdb, settings: tuple[str, ...], trunk: bool
) -> None:
    switch.vsctl("add-port", "br-int", "tr", *settings, "--", "set", "interface", "tr", "type=internal")
    follow(ovsdb, lambda: interface(ovsdb, "tr") is not None)
    seen = interface(ovsdb, "tr")
    switch.vsctl("del-port", "br-int", "tr")
    follow(ovsdb, lambda: interface(ovsdb, "tr") is None)
    assert seen is not None
    assert seen.trunk is trunk


def test_an_interface_of_a_bond_is_told(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    switch.ip("link add b1 type veth peer name b2")
    switch.vsctl("add-bond", "br-int", "bond", "b1", "b2")
    follow(ovsdb, lambda: interface(ovsdb, "b1") is not None)
    assert [seen.bonded for name in ("b1", "b2", "br-int") if (seen := interface(ovsdb, name))] == [True, True, False]
    switch.vsctl("del-port", "br-int", "bond")
    switch.ip("link del b1")


@pytest.mark.parametrize("hostile", ["", "x" * 100_000, "\"]}{'", "né\U0001f600", "../../etc", "a\nb\tc", "-5"])
def test_hostile_ids_go_through_as_the_strings_they_are_and_are_no_zones(
    switch: BareSwitch, ovsdb: Ovsdb, hostile: str
) -> None:
    quoted = '"' + hostile.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    switch.vsctl(
        "set", "interface", "br-int", f"external_ids:iface-id={quoted}", f"external_ids:portward-zone={quoted}"
    )
    follow(ovsdb, lambda: (seen := interface(ovsdb, "br-int")) is not None and seen.iface_id == hostile)
    seen = interface(ovsdb, "br-int")
    assert seen is not None
    assert seen.zone is None
    switch.vsctl("clear", "interface", "br-int", "external_ids")
    follow(ovsdb, lambda: (seen := interface(ovsdb, "br-int")) is not None and seen.iface_id is None)


def test_zones_are_in_the_database_when_the_call_returns_and_nothing_of_others_is_lost(
    switch: BareSwitch, ovsdb: Ovsdb
) -> None:
    switch.vsctl("set", "interface", "br-int", "external_ids:theirs=1", "external_ids:portward-zone=4096")
    zone = KeptZone(4097, IFACE_ID)
    ovsdb.set_zones({"br-int": zone, "gone": KeptZone(4098, IFACE_ID)})
    kept = switch.vsctl("get", "interface", "br-int", "external_ids")
    assert kept == f'{{portward-zone="4097 {IFACE_ID}", theirs="1"}}\n'
    follow(ovsdb, lambda: (seen := interface(ovsdb, "br-int")) is not None and seen.zone == zone)
    ovsdb.set_zones({"br-int": zone})
    switch.vsctl("clear", "interface", "br-int", "external_ids")


def test_a_thousand_zones_are_one_change(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    names = [f"absent{number}" for number in range(1000)]
    switch.vsctl("--no-wait", *(word for name in names for word in ("--", "add-port", "br-int", name)))
    follow(ovsdb, lambda: len(view(ovsdb).interfaces) == 1001)
    wanted = {name: KeptZone(4096 + number, name) for number, name in enumerate(names)}
    ovsdb.set_zones(wanted)
    zones = {seen.name: seen.zone for seen in view(ovsdb).interfaces}
    switch.vsctl("--no-wait", *(word for name in names for word in ("--", "del-port", "br-int", name)))
    assert zones == {"br-int": None} | wanted


def test_what_came_in_during_a_change_still_wakes_whoever_waits(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    ovsdb.update()
    poll = select.poll()
    poll.register(ovsdb.filenos()[0], select.POLLIN)
    assert poll.poll(0) == []
    switch.vsctl("set", "interface", "br-int", f"external_ids:iface-id={IFACE_ID}")
    ovsdb.set_zones({"br-int": KeptZone(4100, IFACE_ID)})
    assert (seen := interface(ovsdb, "br-int")) is not None
    assert seen.iface_id == IFACE_ID
    assert poll.poll(1000) != []
    assert ovsdb.update()
    assert poll.poll(0) == []
    assert not ovsdb.update()
    switch.vsctl("clear", "interface", "br-int", "external_ids")


def test_the_reflectors_port_is_added_once_and_removed(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    switch.ip("link add pw-rjx type veth peer name pw-rjy")
    ovsdb.add_reflector("br-int", "pw-rjx")
    ovsdb.add_reflector("br-int", "pw-rjx")
    follow(ovsdb, lambda: (seen := interface(ovsdb, "pw-rjx")) is not None and seen.ofport is not None)
    assert switch.vsctl("get", "port", "pw-rjx", "external_ids") == "{portward-owner=reflector}\n"
    ovsdb.remove_reflector("br-int")
    ovsdb.remove_reflector("br-int")
    ovsdb.remove_reflector("br-none")
    assert "pw-rjx" not in switch.vsctl("list-ports", "br-int")
    switch.ip("link del pw-rjx")


def test_a_reflector_takes_the_place_of_the_one_before(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    switch.vsctl("add-port", "br-int", "theirs", "--", "set", "interface", "theirs", "type=internal")
    switch.ip("link add pw-rjx type veth peer name pw-rjy")
    ovsdb.add_reflector("br-int", "pw-rjx")
    ovsdb.add_reflector("br-int", "pw-rjy")
    assert switch.vsctl("list-ports", "br-int").split() == ["pw-rjy", "theirs"]
    switch.vsctl("del-port", "br-int", "pw-rjy")
    follow(ovsdb, lambda: interface(ovsdb, "pw-rjy") is None)
    ovsdb.add_reflector("br-int", "pw-rjy")
    assert switch.vsctl("list-ports", "br-int").split() == ["pw-rjy", "theirs"]
    ovsdb.remove_reflector("br-int")
    assert switch.vsctl("list-ports", "br-int").split() == ["theirs"]
    switch.vsctl("del-port", "br-int", "theirs")
    switch.ip("link del pw-rjx")


def test_a_port_of_others_is_never_taken_for_the_reflectors(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    switch.vsctl("add-port", "br-int", "pw-rjx", "--", "set", "interface", "pw-rjx", "type=internal")
    follow(ovsdb, lambda: interface(ovsdb, "pw-rjx") is not None)
    with pytest.raises(DataplaneError, match="pw-rjx"):
        ovsdb.add_reflector("br-int", "pw-rjx")
    ovsdb.remove_reflector("br-int")
    assert "pw-rjx" in switch.vsctl("list-ports", "br-int")
    switch.vsctl("del-port", "br-int", "pw-rjx")


def test_a_bridge_that_is_missing_is_named(ovsdb: Ovsdb) -> None:
    with pytest.raises(DataplaneError, match="no bridge br-none"):
        ovsdb.add_reflector("br-none", "pw-rjx")


def test_a_killed_server_is_found_again_at_once_and_the_picture_stands_meanwhile() -> None:
    with bare_switch() as switch:
        switch.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev")
        database = Ovsdb(switch.run_dir)
        try:
            follow(database, lambda: database.connected)
            before = view(database)
            for _ in range(3):  # the library's own pause would double each time
                switch.kill_database()
                follow(database, lambda: not database.connected)
                assert view(database) == before
                with pytest.raises(DataplaneError, match="ovsdb-server"):
                    database.set_zones({"br-int": KeptZone(4099, IFACE_ID)})
                switch.start_database()
                returned = time.monotonic()
                follow(database, lambda: database.connected)
                assert time.monotonic() - returned < 0.5
                assert view(database) == before
        finally:
            database.close()


def test_a_server_that_comes_later_is_found_even_if_its_directory_comes_later(tmp_path: Path) -> None:
    run_dir = tmp_path / "openvswitch"
    database = Ovsdb(run_dir)
    (fd,) = database.filenos()
    try:
        assert not database.connected
        assert database.bridge("br-int") is None
        with bare_switch() as switch:
            run_dir.symlink_to(switch.run_dir)
            follow(database, lambda: database.connected)
            assert database.filenos() == (fd,)
    finally:
        database.close()


def test_a_server_that_does_not_answer_makes_a_change_fail_in_bounded_time(switch: BareSwitch, ovsdb: Ovsdb) -> None:
    with switch.stopped_database():
        began = time.monotonic()
        with pytest.raises(DataplaneError, match="did not answer"):
            ovsdb.set_zones({"br-int": KeptZone(5000, IFACE_ID)})
        assert time.monotonic() - began < 7
        began = time.monotonic()
        ovsdb.update()
        assert time.monotonic() - began < 0.5
    until(lambda: "5000" in switch.vsctl("get", "interface", "br-int", "external_ids"))
    switch.vsctl("clear", "interface", "br-int", "external_ids")
