"""The values admit nothing that could break the text they are put into, and undo what they do."""

import contextlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portward.channel.messages import decode, encode
from portward.model import (
    InvalidValue,
    Packet,
    PortRange,
    Rule,
    check_device_name,
    check_id,
    check_namespace_name,
)
from properties.strategies import packets, rules

_HARMLESS = set(string.ascii_letters + string.digits + "_.@-")
_HOSTILE = st.text(st.sampled_from("ab0.@-_/\\\"'`;{}$# \n\r\t\0\u2028é\U0001d7d9")) | st.text()


@given(name=_HOSTILE)
@example('eth0"; flush ruleset')
@example("../../proc/1/ns/net")
@example("eth0\n")
@example("eth0\u0661")
@example("..")
@example("")
def test_an_accepted_name_holds_nothing_but_harmless_characters(name: str) -> None:
    for check, longest in ((check_device_name, 15), (check_namespace_name, 64)):
        with contextlib.suppress(InvalidValue):
            assert check(name) == name
            assert set(name) <= _HARMLESS
            assert 1 <= len(name) <= longest
            assert not name.startswith(".")


@given(name=st.text(st.sampled_from(sorted(_HARMLESS)), min_size=1, max_size=15).filter(lambda it: it[0] != "."))
def test_every_harmless_name_of_the_right_length_is_accepted(name: str) -> None:
    assert check_device_name(name) == name
    assert check_namespace_name(name) == name


@given(text=_HOSTILE | st.uuids().map(str).map(lambda it: it + "\n") | st.uuids().map(str).map(str.upper))
def test_an_accepted_id_is_a_lower_case_uuid(text: str) -> None:
    with contextlib.suppress(InvalidValue):
        assert check_id(text) == text
        assert len(text) == 36
        assert set(text) <= set("0123456789abcdef-")


@given(first=st.integers(-2, 65540), last=st.integers(-2, 65540))
def test_a_port_range_is_valid_exactly_when_it_is_in_order_and_in_bounds(first: int, last: int) -> None:
    if 0 <= first <= last <= 65535:
        ports = PortRange(first, last)
        assert first in ports
        assert last in ports
        assert first - 1 not in ports
        assert last + 1 not in ports
    else:
        with pytest.raises(InvalidValue):
            PortRange(first, last)


@given(rule=rules())
def test_a_rule_survives_the_channel(rule: Rule) -> None:
    assert decode(encode(rule), Rule) == rule


@given(packet=packets())
def test_the_reply_to_a_reply_is_the_packet(packet: Packet) -> None:
    assert packet.reply().reply() == packet
    assert (packet.reply().source, packet.reply().destination) == (packet.destination, packet.source)
