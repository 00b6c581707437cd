"""Half a state is no state."""

from uuid import UUID

import pytest

from portward.model import CoveredPort, Group, HostState, InvalidValue, Policy, Port, PortKind

PORT = Port(id=str(UUID(int=1)), kind=PortKind.ROUTER)


@pytest.mark.parametrize("field", ["ingress_policy_id", "egress_policy_id"])
def test_a_state_whose_groups_name_an_absent_policy_is_refused(field: str) -> None:
    covered = CoveredPort(port=PORT, groups=(Group(id="g", **{field: "absent"}),))
    with pytest.raises(InvalidValue, match="absent"):
        HostState(generation=1, ports=(covered,), policies=(Policy(id="present", version=1),))


def test_a_state_with_all_its_policies_is_accepted() -> None:
    covered = CoveredPort(port=PORT, groups=(Group(id="g", ingress_policy_id="p"),))
    assert HostState(generation=1, ports=(covered,), policies=(Policy(id="p", version=1),)).ports == (covered,)
