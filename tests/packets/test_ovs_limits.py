"""More policies than a switch can ask: as many as it can decide as ever, one more is an error and opens nothing."""

from collections.abc import Iterator

import msgspec
import pytest

from fake_switch.wire import encode
from packets.builders import ALLOW_ALL, Guard, address_set, both, new_id, policy, rule
from packets.machines import Machine, Machines, machines_on_a_bridge
from portward.dataplane.openvswitch.sets import PAGE_SIZE
from portward.model import HostState, Stratum

BLUE, ROUTER = Machine("blue", 12), Machine("router", 1)
PORT, DENIED = 9001, 9002
LONGEST = 50
TENANT = Guard(ingress=policy(both("deny", "udp", DENIED), both("reject", "tcp"), both("allow")), egress=ALLOW_ALL)


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    with machines_on_a_bridge() as made:
        made.admit(ROUTER)
        made.add(BLUE)
        made.plug(BLUE)
        yield made


def state_of(lab: Machines, above: int) -> HostState:
    """The machine's group, and so many of admins above it that decide nothing it is asked here."""
    admins = [
        Guard(ingress=policy(both("deny", "udp", 20000 + number)), stratum=Stratum.ADMIN, position=number)
        for number in range(above)
    ]
    state = lab.state_of({BLUE: TENANT})
    port = msgspec.structs.replace(state.ports[0], groups=tuple(guard.group() for guard in (*admins, TENANT)))
    policies = [guard.ingress for guard in admins if guard.ingress is not None]
    return msgspec.structs.replace(state, ports=(port,), policies=(*state.policies, *policies))


@pytest.mark.parametrize("version", [4, 6])
def test_the_last_of_as_many_policies_as_there_may_be_decides(lab: Machines, version: int) -> None:
    lab.state = state_of(lab, LONGEST - 1)
    lab.realise()
    frame = ROUTER.udp(BLUE, PORT, version)
    assert lab.send(ROUTER, frame) == {BLUE.name: [encode(frame)]}
    assert lab.send(ROUTER, ROUTER.udp(BLUE, DENIED, version), ROUTER.udp(BLUE, 20000, version)) == {}


def test_one_policy_more_is_an_error_and_opens_nothing(lab: Machines) -> None:
    for above in (LONGEST, 2 * LONGEST):
        lab.state = state_of(lab, above)
        (port,) = lab.dataplane.apply(lab.state).ports
        assert port.error is not None
        assert f"{above + 1} policies decide" in port.error
        assert lab.send(ROUTER, ROUTER.udp(BLUE, DENIED), ROUTER.udp(BLUE, 20000)) == {}


def test_one_policy_of_as_many_address_sets_counts_as_often_as_it_must_be_asked(lab: Machines) -> None:
    crowd = [address_set(new_id(), "10.99.0.1") for _ in range(PAGE_SIZE * LONGEST + 1)]
    many = policy(*(rule("allow", "udp", PORT, source_set=one.id) for one in crowd))
    before = lab.state_of({BLUE: TENANT})
    port = msgspec.structs.replace(before.ports[0], groups=(Guard(many, TENANT.egress).group(),))
    policies = (*before.policies, many)
    lab.state = msgspec.structs.replace(before, ports=(port,), policies=policies, sets=tuple(crowd))
    (report,) = lab.dataplane.apply(lab.state).ports
    assert report.error is not None
    assert f"{LONGEST + 1} policies decide" in report.error
    assert lab.send(ROUTER, ROUTER.udp(BLUE, PORT)) == {}
