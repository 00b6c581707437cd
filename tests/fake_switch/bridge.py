"""The flows that our pipeline has for a host's state, as the driver asks for them."""

from collections.abc import Mapping
from typing import NamedTuple

from portward.dataplane.addresses import AddressSets
from portward.dataplane.lists import Policies, rule_list
from portward.dataplane.openvswitch.flows import Flow
from portward.dataplane.openvswitch.plan import Plan, Profile, Wanted, number_all, plan
from portward.dataplane.openvswitch.ports import AdmittedPort, FilteredPort
from portward.model import Direction, HostState

#: The port of what answers rejected packets.
REFLECTOR = 99
_FIRST_ZONE = 4096


class Place(NamedTuple):
    """Where a VM port is on the bridge."""

    ofport: int
    network: int = 0


class Bridge:
    """What stands on one bridge, over its changes."""

    def __init__(self, *, beside: bool = False) -> None:
        self._beside = beside
        self.plan = Plan()
        self._epoch = 0

    def flows(
        self, state: HostState, places: Mapping[str, Place], admitted: tuple[AdmittedPort, ...] = ()
    ) -> list[Flow]:
        """All flows for the ports of ``state`` that have a place; the zone of each is ``zone_of(ofport)``."""
        policies, sets = Policies().update(state.policies), AddressSets().update(state.sets)
        there = [covered for covered in state.ports if covered.port.id in places]
        lists = {
            covered.port.id: tuple(rule_list(covered, way, policies) for way in (Direction.EGRESS, Direction.INGRESS))
            for covered in there
        }
        names = {id_: f"{egress.key} {ingress.key}" for id_, (egress, ingress) in lists.items()}
        numbers = number_all(sorted(set(names.values())))
        filtered = tuple(
            FilteredPort(
                port=covered.port,
                ofport=places[covered.port.id].ofport,
                network=places[covered.port.id].network,
                zone=zone_of(places[covered.port.id].ofport),
                profile=numbers[names[covered.port.id]],
            )
            for covered in there
        )
        profiles = {
            numbers[names[id_]]: Profile(
                egress.parts, ingress.parts, tuple(sets.of(sorted(egress.sets | ingress.sets)).values())
            )
            for id_, (egress, ingress) in lists.items()
        }
        wanted = Wanted(
            userspace=True,
            filtered=filtered,
            admitted=admitted,
            profiles=profiles,
            beside=self._beside,
            reflector=REFLECTOR,
        )
        self.plan = plan(wanted, self.plan, self._epoch + 1)
        self._epoch = max([self._epoch, *(epoch for _, epoch in self.plan.epochs.values())])
        return [flow for section in self.plan.sections.values() for flow in section.flows]


def zone_of(ofport: int) -> int:
    """The connection-tracking zone of the VM port at ``ofport``."""
    return _FIRST_ZONE + ofport
