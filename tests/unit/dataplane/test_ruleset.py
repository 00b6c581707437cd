"""The text that stands in a namespace."""

from ipaddress import ip_network
from uuid import UUID

import pytest

from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.ruleset import (
    deny_all,
    device_chain,
    epoch_chains,
    matches,
    rule_list,
    skeleton,
    version_chains,
)
from portward.model import (
    Action,
    CoveredPort,
    Direction,
    Group,
    InvalidValue,
    Policy,
    Port,
    PortKind,
    PortRange,
    Rule,
    Stratum,
)


def ident(number: int) -> str:
    return str(UUID(int=number))


def port(number: int, *groups: Group) -> CoveredPort:
    return CoveredPort(port=Port(id=ident(number), kind=PortKind.ROUTER), groups=groups)


WEB = Rule(
    id=ident(1),
    action=Action.ALLOW,
    protocol=6,
    source=ip_network("10.0.0.0/8"),
    destination=ip_network("192.0.2.1/32"),
    source_port=PortRange(1024, 65535),
    destination_port=PortRange(80, 80),
)
ANY6 = Rule(id=ident(2), action=Action.REJECT, ip_version=6, source=ip_network("::/0"))
PING = Rule(id=ident(3), action=Action.DENY, protocol=1)
POLICY = Policy(id=ident(10), version=1, rules=(WEB, ANY6, PING))
POLICIES = {POLICY.id: POLICY}


def lines(*groups: Group, direction: Direction = Direction.INGRESS) -> dict[str, list[str]]:
    wanted = rule_list(port(1, *groups), direction, POLICIES)
    return dict(version_chains(1, 2, "key", wanted.parts))


def test_a_rule_matches_in_the_terms_of_its_packets() -> None:
    assert list(matches(WEB, reply=False)) == [
        "ip saddr 10.0.0.0/8",
        "ip daddr 192.0.2.1",
        "meta l4proto 6",
        "th sport 1024-65535",
        "th dport 80",
    ]


def test_an_answer_is_matched_with_addresses_and_ports_swapped() -> None:
    assert list(matches(WEB, reply=True)) == [
        "ip daddr 10.0.0.0/8",
        "ip saddr 192.0.2.1",
        "meta l4proto 6",
        "th dport 1024-65535",
        "th sport 80",
    ]


def test_what_matches_everything_is_not_written() -> None:
    assert list(matches(ANY6, reply=False)) == []
    every_port = Rule(id=ident(4), action=Action.ALLOW, protocol=17, destination_port=PortRange(0, 65535))
    assert list(matches(every_port, reply=False)) == ["meta l4proto 17"]


def test_each_family_has_its_own_rules_in_their_order() -> None:
    chains = lines(Group(id=ident(20), ingress_policy_id=POLICY.id))
    assert [line.split()[-1] for line in chains["v2/rules/key/4/tenant"]] == ["return", "drop", "drop"]
    assert chains["v2/rules/key/6/tenant"] == ["goto v1/refuse", "drop"]


def test_a_direction_without_policy_and_a_group_that_is_down_deny_all() -> None:
    assert lines(Group(id=ident(20))) == {"v2/rules/key": ["drop"]}
    down = Group(id=ident(20), ingress_policy_id=POLICY.id, admin_state_up=False)
    assert lines(down) == {"v2/rules/key": ["drop"]}


def test_without_a_tenant_group_what_no_rule_decides_is_allowed() -> None:
    chains = lines(Group(id=ident(20), stratum=Stratum.ADMIN, ingress_policy_id=POLICY.id))
    assert chains["v2/rules/key/6/admin"] == ["goto v1/refuse", "return"]
    down = Group(id=ident(20), stratum=Stratum.BASELINE, ingress_policy_id=POLICY.id, admin_state_up=False)
    assert lines(down) == {"v2/rules/key": ["return"]}


def test_disabled_rules_are_not_part_of_a_list() -> None:
    disabled = Rule(id=ident(5), action=Action.ALLOW, enabled=False)
    covered = port(1, Group(id=ident(20), egress_policy_id=ident(11)))
    (part,) = rule_list(
        covered, Direction.EGRESS, {ident(11): Policy(id=ident(11), version=1, rules=(disabled, PING))}
    ).parts
    assert part.rules == (PING,)


def test_ports_of_different_groups_with_the_same_policy_share_its_list() -> None:
    one = rule_list(port(1, Group(id=ident(20), ingress_policy_id=POLICY.id)), Direction.INGRESS, POLICIES)
    other = rule_list(port(2, Group(id=ident(21), egress_policy_id=POLICY.id)), Direction.EGRESS, POLICIES)
    assert one == other
    assert one.key != deny_all().key


def test_a_policy_whose_id_could_break_the_text_is_refused() -> None:
    hostile = 'x" } flush ruleset'
    covered = port(1, Group(id=ident(20), ingress_policy_id=hostile))
    with pytest.raises(InvalidValue):
        rule_list(covered, Direction.INGRESS, {hostile: Policy(id=hostile, version=1)})


def test_device_names_become_chain_names_one_to_one() -> None:
    assert device_chain(3, Direction.EGRESS, "qr-0a1b2c3d-4e") == "v3/egress/qr-0a1b2c3d-4e"
    assert device_chain(3, Direction.INGRESS, "eth0@if3") == "v3/ingress/eth0//if3"
    with pytest.raises(InvalidValue):
        device_chain(3, Direction.EGRESS, 'eth0"; flush')


@pytest.mark.parametrize(
    ("mode", "check"),
    [("strict", "fib saddr . iif oif missing drop"), ("loose", "fib saddr oif missing drop"), ("off", None)],
)
def test_the_reverse_path_check_comes_before_anything_else(mode: str, check: str | None) -> None:
    decide = dict(epoch_chains(1, 2, 3, Epochs(0xFFFF), mode))["v2/epoch/3/ffff/decide"]
    assert (decide[0] if check else None) == check
    assert any("fib" in line for line in decide) is (check is not None)


def test_only_our_bits_of_a_mark_are_ever_compared_or_written() -> None:
    text = "\n".join(line for _, chain in epoch_chains(1, 2, 3, Epochs(0xF0), "strict") for line in chain)
    assert "ct mark and 0xf0 == 0x30 accept" in text
    assert text.count("ct mark set ct mark and 0xffffff0f or 0x30") == 2


def test_the_base_chain_never_drops_by_its_policy() -> None:
    assert "policy accept" in skeleton(1, "host")
    assert "policy drop" not in skeleton(1, "host")
