"""The text that stands in a namespace, lists aside."""

import pytest

from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.ruleset import ReversePath, base_rules, device_chain, epoch_chains, skeleton
from portward.model import Direction, InvalidValue


def test_device_names_become_chain_names_one_to_one() -> None:
    assert device_chain(3, Direction.EGRESS, "qr-0a1b2c3d-4e") == "v3/egress/qr-0a1b2c3d-4e"
    assert device_chain(3, Direction.INGRESS, "eth0@if3") == "v3/ingress/eth0//if3"
    with pytest.raises(InvalidValue):
        device_chain(3, Direction.EGRESS, 'eth0"; flush')


@pytest.mark.parametrize(
    ("mode", "fib"), [("strict", "fib saddr . iif oif"), ("loose", "fib saddr oif"), ("off", None)]
)
def test_no_packet_of_a_covered_port_passes_without_its_reverse_path(mode: ReversePath, fib: str | None) -> None:
    fast, into = base_rules(2, 3, Epochs(0xFFFF), mode)
    rest = dict(epoch_chains(1, 2, 3, Epochs(0xFFFF), mode))[into.removeprefix("goto ")]
    if fib is None:
        assert "fib" not in " ".join([fast, *rest])
    else:
        assert fast.endswith(f"{fib} exists accept")
        assert rest[0] == f"{fib} missing goto v1/uncovered"


def test_only_our_bits_of_a_mark_are_ever_compared_or_written() -> None:
    lines = [line for _, chain in epoch_chains(1, 2, 3, Epochs(0xF0), "strict") for line in chain]
    text = "\n".join([*base_rules(2, 3, Epochs(0xF0), "strict"), *lines])
    assert text.count("ct mark and 0xf0 == 0x30 ") == 1
    assert text.count("ct mark and 0x70 == 0x30 ") == 1
    assert text.count("ct mark set ct mark and 0xffffff0f or 0xb0") == 1
    assert text.count("ct mark set ct mark and 0xffffff0f or 0x30") == 3


def test_the_base_chain_never_drops_by_its_policy() -> None:
    assert "policy accept" in skeleton(1, "host")
    assert "policy drop" not in skeleton(1, "host")
