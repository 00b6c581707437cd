"""One state, several dataplanes, one report."""

from portward.agent.drivers import Drivers, part_of
from portward.model import CoveredPort, Group, PortKind, PortReport, PortwardError
from unit.agent.dataplane import FakeDataplane
from unit.agent.values import covered, policy, state, uuid


def test_each_dataplane_gets_the_ports_of_its_kind_and_the_policies_these_use():
    router, vm = FakeDataplane(), FakeDataplane()
    ports = (covered(1, 7), covered(2, 8, kind=PortKind.VM))

    Drivers({PortKind.ROUTER: router, PortKind.VM: vm}).apply(state(5, *ports, policies=(policy(7), policy(8))))

    assert router.in_force == state(5, ports[0], policies=(policy(7),))
    assert vm.in_force == state(5, ports[1], policies=(policy(8),))


def test_a_policy_of_either_direction_is_part_of_it():
    group = Group(id=uuid(3), ingress_policy_id=uuid(7), egress_policy_id=uuid(8))
    port = CoveredPort(port=covered(1).port, groups=(group,))
    whole = state(5, port, policies=(policy(7), policy(8)))

    assert part_of(whole, PortKind.ROUTER) == whole


def test_a_dataplane_without_ports_is_told_so():
    router = FakeDataplane()
    drivers = Drivers({PortKind.ROUTER: router})
    drivers.apply(state(5, covered(1)))

    drivers.apply(state(6))

    assert router.in_force == state(6)


def test_a_port_that_no_dataplane_realises_is_in_error_for_good():
    ports = (covered(1, kind=PortKind.VM), covered(2, kind=PortKind.DISTRIBUTED_ROUTER), covered(3))

    outcome = Drivers({PortKind.ROUTER: FakeDataplane()}).apply(state(5, *ports))

    assert outcome.report.ports == (
        PortReport(port_id=uuid(1), error="no dataplane of this host realises VM ports"),
        PortReport(port_id=uuid(2), error="no dataplane of this host realises distributed router ports"),
        PortReport(port_id=uuid(3)),
    )
    assert not outcome.may_heal


def test_an_error_of_a_dataplane_may_heal():
    router = FakeDataplane()
    router.errors[uuid(1)] = "no such device"

    outcome = Drivers({PortKind.ROUTER: router}).apply(state(5, covered(1), covered(2)))

    assert outcome.report.ports == (PortReport(port_id=uuid(1), error="no such device"), PortReport(port_id=uuid(2)))
    assert outcome.may_heal


def test_a_port_about_which_nothing_is_said_is_not_taken_for_enforced():
    router = FakeDataplane()
    router.unmentioned.add(uuid(1))

    outcome = Drivers({PortKind.ROUTER: router}).apply(state(5, covered(1)))

    assert outcome.report.ports[0].error is not None
    assert outcome.may_heal


def test_a_dataplane_that_fails_fails_its_own_ports_only():
    router, vm = FakeDataplane(), FakeDataplane()
    router.failure = PortwardError("nftables is not there")
    drivers = Drivers({PortKind.ROUTER: router, PortKind.VM: vm})
    whole = state(5, covered(1), covered(2, kind=PortKind.VM))

    assert drivers.apply(whole).report.ports == (
        PortReport(port_id=uuid(1), error="nftables is not there"),
        PortReport(port_id=uuid(2)),
    )
    router.failure = RuntimeError("a secret detail")
    error = drivers.apply(whole).report.ports[0].error
    assert error is not None
    assert "secret" not in error
