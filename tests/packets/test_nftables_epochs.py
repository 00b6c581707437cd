"""Epochs that come round: 15 of them, so that a few changes are enough."""

import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited
from packets.nftables_router import enforcing, epoch, marks, udp
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab

MASK = 0xF


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_idle_connection_stays_denied_or_allowed_when_its_epoch_comes_round(
    lab: Lab, protocol: str, version: int
) -> None:
    """Denied: no packet revives it. Allowed: the server's push still reaches the client that has been silent."""
    kept_ports = [
        edited(ALLOW_ALL, both("allow", protocol, 5001), both("allow", protocol, 6000 + number)) for number in range(2)
    ]
    with enforcing(lab, ct_mark_mask=MASK) as enforce:
        enforce(blue=Guard(ingress=ALLOW_ALL))
        address = lab.blue.address(version)
        kept = lab.red.connect(protocol, address, 5001, push="server")
        cut = [lab.red.connect(protocol, address, 5002, push=push) for push in ("client", "server")]
        accepted = epoch(lab.router_netns)
        assert marks(lab.router_netns)[5002] == {accepted}
        seen = []
        for number in range(2 * MASK + 3):
            enforce(blue=Guard(ingress=kept_ports[number % 2]))
            seen.append(epoch(lab.router_netns))
            assert marks(lab.router_netns)[5001] <= {accepted, 0}
            if seen[-1] == accepted:
                assert [connection.exchange(0.1) for connection in cut] == [False, False]
        assert seen.count(accepted) == 2
        assert 0 not in seen
        assert kept.exchange()
        for connection in (kept, *cut):
            connection.close()


def test_marks_are_cleared_twice_a_round_and_not_otherwise(lab: Lab) -> None:
    steps: list[tuple[int, Step]] = []
    changes = 0
    with enforcing(lab, ct_mark_mask=MASK, on_step=lambda step: steps.append((changes, step))) as enforce:
        for changes in range(2 * MASK):
            enforce(blue=Guard(ingress=udp(5001 + changes)))
        assert epoch(lab.router_netns) == MASK
    assert [number for number, step in steps if step is Step.MARKS_CLEARED] == [0, 7, 15, 22]
