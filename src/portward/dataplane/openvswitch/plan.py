"""All flows of a bridge, in sections that change one by one. Pure.

A section is the flows that one thing brings with it: a policy, a profile, a port, a MAC, a network. What it depends
on stands beside it, so a change costs the sections that it touches, however many there are.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from portward.compiler import BITS
from portward.dataplane.addresses import Members
from portward.dataplane.lists import Part
from portward.dataplane.openvswitch import sets
from portward.dataplane.openvswitch.flows import Conjunction, Flow, FlowKey
from portward.dataplane.openvswitch.policies import PolicyFlows, policy_flows, profile_flows, stretches
from portward.dataplane.openvswitch.ports import (
    AdmittedPort,
    FilteredPort,
    admitted_flows,
    delivery_flows,
    filtered_flows,
    macs_of,
    network_flows,
    unknown_network_flows,
)
from portward.dataplane.openvswitch.tables import fixed_flows
from portward.model import Rule

#: The rules of a policy: whole, and in stretches.
Cut = tuple[tuple[Rule, ...], tuple[tuple[Rule, ...], ...]]


class Profile(NamedTuple):
    """The two lists that decide for a port, and what the address sets hold that their rules name."""

    egress: tuple[Part, ...]
    ingress: tuple[Part, ...]
    sets: tuple[Members, ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a bridge is to enforce."""

    filtered: tuple[FilteredPort, ...] = ()
    admitted: tuple[AdmittedPort, ...] = ()
    profiles: dict[int, Profile] = {}
    beside: bool = False  # security groups of Neutron are on the bridge
    userspace: bool = False  # the datapath is not the kernel's
    reflector: int | None = None  # port of what answers rejected packets


class Section(NamedTuple):
    """The flows of one thing. Equal ``source``: equal flows."""

    source: Any
    flows: tuple[Flow, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on a bridge, or is to stand there."""

    sections: dict[Hashable, Section] = {}
    cuts: dict[str, Cut] = {}  # by the id of a policy
    policies: dict[int, PolicyFlows] = {}  # by the number of a stretch
    pages: dict[tuple[int, int, int], sets.Source] = {}  # by table, page and IP version
    epochs: dict[int, tuple[Profile, int]] = {}  # by profile: what is enforced, and the epoch of what that accepted

    @property
    def places(self) -> frozenset[Hashable]:
        """What differs when a port came, went, or changed its place: sources seen before then count no more."""
        return frozenset(
            (key, section.source.place)
            for key, section in self.sections.items()
            if key[0] in ("port", "admitted")  # type: ignore[index]
        )


def plan(wanted: Wanted, before: Plan, epoch: int) -> Plan:
    """The flows for ``wanted``. Sections of ``before`` that stay are the same objects.

    ``epoch`` and those above it are new on this bridge: each profile whose lists changed gets one of its own, under
    which it accepts connections from now on. What one profile accepted says nothing about another.
    """
    sections: dict[Hashable, Section] = {}

    def section(key: Hashable, source: object, make: Iterable[Flow]) -> None:
        old = before.sections.get(key)
        sections[key] = old if old is not None and old.source == source else Section(source, tuple(make))

    section(
        ("fixed",),
        (wanted.beside, wanted.userspace, wanted.reflector),
        fixed_flows(beside=wanted.beside, userspace=wanted.userspace, reflector=wanted.reflector),
    )
    cuts = _cuts(wanted.profiles.values(), before)
    numbers, policies = _policies(cuts, before)
    lookups = {number: policy.lookups for number, policy in policies.items()}
    pages = _pages(wanted, lookups, before, sections)
    for number, policy in policies.items():
        old = before.sections.get(("policy", number))
        same = old is not None and before.policies.get(number) is policy
        sections["policy", number] = (
            old
            if same and old is not None
            else Section(
                (policy.rules.keys(), policy.lookups),
                tuple(flow for made in policy.rules.values() for flow in made.flows),
            )
        )
    epochs: dict[int, tuple[Profile, int]] = {}
    for number, profile in wanted.profiles.items():
        known = before.epochs.get(number)
        if known is None or known[0] != profile:
            known = profile, epoch
            epoch += 1
        epochs[number] = known
        mine = epochs[number][1]
        section(
            ("profile", number),
            (profile, mine, numbers, lookups),
            profile_flows(number, mine, profile.egress, profile.ingress, numbers, lookups),
        )
    _ports(wanted, section)
    return Plan(sections=sections, cuts=cuts, policies=policies, pages=pages, epochs=epochs)


def _pages(
    wanted: Wanted, lookups: Mapping[int, sets.Lookups], before: Plan, sections: dict[Hashable, Section]
) -> dict[tuple[int, int, int], sets.Source]:
    """Add the sections of address sets: of pages on which nothing changed as they were, of others what differs."""
    members = {one.id: one for profile in wanted.profiles.values() for one in profile.sets}
    sources: dict[tuple[int, int, int], sets.Source] = {}
    for place, side in enumerate(sets.SIDES):
        for page, bits in sets.pages_of({number: both[place] for number, both in lookups.items()}).items():
            for version in BITS:
                source = sources[side.table, page, version] = sets.source_of(bits, members)
                keys = {part: sets.part_key(side, page, version, part) for part in range(sets.PARTS)}
                old = {part: before.sections[key] for part, key in keys.items() if key in before.sections}
                known = before.pages.get((side.table, page, version))
                values = {part: section.source for part, section in old.items()}
                changed = None if known is None else sets.changed_addresses(known, source, version)
                if changed is None:
                    values = sets.parts(bits, members, version)
                else:
                    values |= sets.edited_parts(values, changed, source, version)
                for part, wanted_values in values.items():
                    kept = old.get(part)
                    if kept is not None and kept.source == wanted_values:
                        sections[keys[part]] = kept
                    elif wanted_values:
                        flows = sets.part_flows(side, page, version, wanted_values)
                        sections[keys[part]] = Section(wanted_values, tuple(flows))
    return sources


def _ports(wanted: Wanted, section: Any) -> None:
    of_network: dict[int, list[int]] = defaultdict(list)
    of_mac: dict[tuple[int, int], list[int]] = defaultdict(list)
    for port in wanted.filtered:
        section(("port", port.ofport), port, filtered_flows(port))
        of_network[port.network].append(port.ofport)
        for mac in macs_of(port.port):
            of_mac[port.network, mac].append(port.ofport)
    for admitted in wanted.admitted:
        section(("admitted", admitted.ofport), admitted, admitted_flows(admitted))
        if admitted.network is not None:
            of_network[admitted.network] += ()
    for (network, mac), ofports in of_mac.items():
        section(("mac", network, mac), ofports, delivery_flows(network, mac, ofports))
    for network, ofports in {0: [], **of_network}.items():
        section(("network", network), (ofports, wanted.admitted), network_flows(network, ofports, wanted.admitted))
    section(("network",), wanted.admitted, unknown_network_flows(wanted.admitted))


def _cuts(profiles: Iterable[Profile], before: Plan) -> dict[str, Cut]:
    """The rules of all policies in use, by id."""
    found: dict[str, Cut] = {}
    for profile in profiles:
        for part in (*profile.egress, *profile.ingress):
            if part.policy_id is not None and part.rules and part.policy_id not in found:
                known = before.cuts.get(part.policy_id)
                same = known is not None and known[0] is part.rules
                found[part.policy_id] = known if same and known else (part.rules, tuple(stretches(part.rules)))
    return found


def _policies(cuts: Mapping[str, Cut], before: Plan) -> tuple[dict[str, list[int]], dict[int, PolicyFlows]]:
    """The numbers of the stretches of all policies, by id, and their flows by number."""
    names = {f"{id_} {place}": part for id_, (_, parts) in cuts.items() for place, part in enumerate(parts)}
    number_of = number_all(sorted(names))
    numbers = {id_: [number_of[f"{id_} {place}"] for place in range(len(parts))] for id_, (_, parts) in cuts.items()}
    rules = {number_of[name]: part for name, part in names.items()}
    named = {number: _named(part, before.policies.get(number)) for number, part in rules.items()}
    found = [
        sets.allocate(
            {number: both[place] for number, both in named.items()},
            {number: old.lookups[place] for number, old in before.policies.items()},
        )
        for place in range(len(sets.SIDES))
    ]
    made: dict[int, PolicyFlows] = {}
    for number, part in rules.items():
        old = before.policies.get(number)
        lookups = found[0][number], found[1][number]
        same = old is not None and old.source is part and old.lookups == lookups
        made[number] = old if same and old is not None else policy_flows(number, part, lookups, old)
    return numbers, made


def _named(rules: tuple[Rule, ...], before: PolicyFlows | None) -> tuple[frozenset[str], frozenset[str]]:
    if before is not None and before.source is rules:
        return frozenset(before.lookups[0].bits), frozenset(before.lookups[1].bits)
    return sets.named_sets(rules)


def number_all(names: Sequence[str]) -> dict[str, int]:
    """A 32-bit number above 0 for each of ``names``, no two alike: the same ones again, as far as the names are."""
    taken: dict[int, str] = {}
    for name in names:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") or 1
        while number in taken:
            number = number % 0xFFFFFFFF + 1
        taken[number] = name
    return {name: number for number, name in taken.items()}


def changes(
    before: Mapping[Hashable, Section], after: Mapping[Hashable, Section]
) -> tuple[Collection[Flow], Collection[Flow]]:
    """The flows that go, and those that come or have other actions."""
    old: dict[object, Flow] = {}
    new: dict[object, Flow] = {}
    for key in before.keys() | after.keys():
        was, is_ = before.get(key), after.get(key)
        if was is not is_:
            old |= {flow.key: flow for flow in (was.flows if was else ())}
            new |= {flow.key: flow for flow in (is_.flows if is_ else ())}
    gone = [flow for key, flow in old.items() if key not in new]
    come = [flow for key, flow in new.items() if old.get(key) != flow]
    return gone, come


def counting(made: Plan) -> dict[FlowKey, str]:
    """The flows that count what rules decide, and the rule of each."""
    return {
        flow.key: rule.rule.id
        for policy in made.policies.values()
        for rule in policy.rules.values()
        for flow in rule.flows
        if not any(isinstance(action, Conjunction) for action in flow.actions)
    }
