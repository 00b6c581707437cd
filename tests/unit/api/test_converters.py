"""Converters under values that nobody thought of."""

import time
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import validate

from portward.api import address_converters as to_address
from portward.api import converters as to
from portward.api.converter import Converter
from portward.model import InvalidValue
from portward.service.errors import InvalidInput

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=5,
)
UUID = "3e84dbe7-799d-43f1-8c17-da978d084747"
CONVERTERS = [
    to.string(255), to.string_or_empty(255), to.boolean, to.integer, to.ip_version, to.protocol, to.action,
    to_address.address_or_prefix, to.port_range, to.port_range_or_clear, to.uuid_or_null, to.uuid_list,
    to_address.mac_address, to_address.fixed_ips, to_address.address_pairs, to.profile,
]  # fmt: skip


@pytest.mark.parametrize("convert", CONVERTERS)
@given(value=JSON)
def test_any_json_is_converted_or_refused_and_nothing_else(convert: Converter, value: Any) -> None:
    try:
        converted = convert(value)
    except (InvalidValue, InvalidInput):
        return
    assert convert(converted if not isinstance(converted, tuple) else list(converted)) == converted


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_a_range_is_never_lost_or_widened(one: int, other: int) -> None:
    first, last = sorted((one, other))
    if last == 0:
        return
    assert to.port_range(f"{first}:{last}") == (str(first) if first == last else f"{first}:{last}")


@given(st.ip_addresses())
def test_an_address_is_kept_as_written(address: Any) -> None:
    for text in (str(address), str(address).upper(), f"{address}/{address.max_prefixlen - 1}", address.exploded):
        assert to_address.address_or_prefix(text) == text
        ip_network(text, strict=False)


@pytest.mark.parametrize("text", ["1", "t", "True", "ON", "y", "YES", True, 1])
def test_what_means_true(text: Any) -> None:
    assert to.boolean(text) is True


@pytest.mark.parametrize("text", ["0", "F", "false", "off", "N", "no", False, 0])
def test_what_means_false(text: Any) -> None:
    assert to.boolean(text) is False


def test_ids_given_twice_are_named_in_linear_time_and_not_all_of_them() -> None:
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(13_000)]
    assert to.uuid_list(ids) == tuple(ids)
    began = time.process_time()
    with pytest.raises(InvalidValue, match=f"Duplicate items in the list: '{ids[0]}, ") as raised:
        to.uuid_list(ids * 2)
    assert time.process_time() - began < 1
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("text", ["10.0.0.0/024", "10.0.0.0/00", "2001:db8::/064", "10.0.0.0/"])
def test_a_prefix_length_has_one_spelling(text: str) -> None:
    with pytest.raises(InvalidValue):
        to_address.address_or_prefix(text)


#: What converters take, beside what is drawn at random, which seldom is anything.
LIKELY = st.sampled_from([
    True, 0, 1, "True", "yes", "OFF", 4, "6", "TCP", 47, "255", "any", "Allow", "10.0.0.1/24", "2001:DB8::1", "",
    "80", 80, "0", "1:65535", "22:22", UUID, [UUID], "FA-16-3E-00-00-01", [{"ip_address": "10.0.0.1"}],
    [{"ip_address": "10.0.0.0/24", "mac_address": "fa:16:3e:00:00:01"}],
    [{"ip_address": "10.0.0.1", "subnet_id": UUID}], {"netns": "n"},
])  # fmt: skip


@pytest.mark.parametrize("convert", CONVERTERS)
@given(value=JSON | LIKELY)
def test_the_schemas_of_a_converter_admit_what_it_takes_and_what_it_makes(convert: Converter, value: Any) -> None:
    try:
        made = convert(value)
    except (InvalidValue, InvalidInput):
        return
    validate(value, convert.takes)
    validate(list(made) if isinstance(made, tuple) else made, convert.shows)
