"""The names of a reflector."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from portward.dataplane.openvswitch.reflector import Reflector
from portward.model import check_namespace_name


@given(st.text(), st.text())
def test_whatever_a_bridge_is_called_its_namespace_has_a_name_that_is_valid(bridge: str, directory: str) -> None:
    name = Reflector(bridge, Path(directory)).namespace
    assert check_namespace_name(name) == name
    assert name.startswith("pw-reject-")


def test_bridges_and_switches_have_reflectors_of_their_own() -> None:
    made = [Reflector("br-int"), Reflector("br-ex"), Reflector("br-int", Path("/tmp/other"))]
    assert len({reflector.namespace for reflector in made}) == 3
