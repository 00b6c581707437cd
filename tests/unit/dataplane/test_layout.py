"""How a version of a list is laid out."""

import re
from ipaddress import ip_network
from uuid import UUID

from portward.dataplane.lists import Part
from portward.dataplane.nftables.layout import Layouts, lay_out
from portward.model import Action, PortRange, Rule, Stratum


def ident(number: int) -> str:
    return str(UUID(int=number))


def rule(number: int, action: str = "allow", **match: object) -> Rule:
    return Rule(id=ident(number), action=Action(action), **match)


def tenant(*rules: Rule) -> tuple[Part, ...]:
    return (Part(Stratum.TENANT, ident(10), rules),)


def chains(parts: tuple[Part, ...]) -> dict[str, list[str]]:
    found = re.findall(r"^chain (\S+) \{\n(.*?)^\}", lay_out(parts).text("v2/rules/k", "refuse", {}), re.M | re.S)
    return {title: [line.strip() for line in body.splitlines()] for title, body in found}


WEB = rule(
    1,
    protocol=6,
    source=ip_network("10.0.0.0/8"),
    destination=ip_network("192.0.2.1/32"),
    source_port=PortRange(1024, 65535),
    destination_port=PortRange(80, 80),
)
MANY = [
    rule(n, protocol=17, source=ip_network((0x0A000000 + n, 32)), destination_port=PortRange(n, n)) for n in range(99)
]
BUCKETS = [
    rule(n, protocol=17, source=ip_network((0x0A000000 + (n << 8), 24)), destination_port=PortRange(n, n + 9))
    for n in range(20)
]


def test_a_rule_matches_in_the_terms_of_its_packets_and_counts_under_its_id() -> None:
    assert chains(tenant(WEB))["v2/rules/k/tenant/4/6"] == [
        f'ip saddr 10.0.0.0/8 ip daddr 192.0.2.1 th sport 1024-65535 th dport 80 counter return comment "{ident(1)}"',
        "drop",
    ]


def test_an_answer_is_matched_with_addresses_and_ports_swapped() -> None:
    assert chains(tenant(WEB))["v2/rules/k/tenant/4/6/reply"][0].startswith(
        "ip daddr 10.0.0.0/8 ip saddr 192.0.2.1 th dport 1024-65535 th sport 80 "
    )


def test_what_matches_everything_is_not_written() -> None:
    every_port = rule(4, protocol=17, destination_port=PortRange(0, 65535))
    assert chains(tenant(every_port))["v2/rules/k/tenant/4/17"][0] == f'counter return comment "{ident(4)}"'


def test_each_family_and_protocol_has_its_own_chain() -> None:
    made = chains(tenant(WEB, rule(2, "reject", ip_version=6), rule(3, "deny", protocol=1)))
    assert made["v2/rules/k"] == [
        "meta nfproto ipv4 meta l4proto 1 goto v2/rules/k/tenant/4/1",
        "meta nfproto ipv4 meta l4proto 6 goto v2/rules/k/tenant/4/6",
        "meta nfproto ipv6 goto v2/rules/k/tenant/6/any",
        "drop",
    ]
    assert made["v2/rules/k/tenant/6/any"] == [f'counter goto refuse comment "{ident(2)}"', "drop"]


def test_without_rules_all_is_denied_and_a_closed_part_denies_what_follows() -> None:
    for parts in (tenant(), (Part(Stratum.TENANT, closed=True),)):
        assert chains(parts) == {"v2/rules/k": ["drop"], "v2/rules/k/reply": ["drop"]}


def test_without_a_tenant_part_what_no_rule_decides_is_allowed() -> None:
    assert chains((Part(Stratum.ADMIN, ident(10), (WEB,)),))["v2/rules/k"][-1] == "return"
    assert chains(()) == {"v2/rules/k": ["return"], "v2/rules/k/reply": ["return"]}


def test_pass_goes_to_the_next_stratum() -> None:
    parts = (Part(Stratum.ADMIN, ident(10), (rule(1, "pass", protocol=1),)), *tenant(WEB))
    made = chains(parts)
    for way in ("", "/reply"):
        assert made[f"v2/rules/k/admin/4/1{way}"] == [
            f'counter goto v2/rules/k/tenant{way} comment "{ident(1)}"',
            f"goto v2/rules/k/tenant{way}",
        ]


def test_many_rules_become_one_map_that_answers_share() -> None:
    text = lay_out(tenant(*MANY)).text("v2/rules/k", "refuse", {})
    assert re.findall(r"vmap @(\S+)", text) == ["v2/rules/k/tenant/4/17/0"] * 2
    assert len(re.findall(r"^map", text, re.M)) == 1
    assert all(f'comment "{ident(n)}" : return' in text for n in range(99))


def test_a_map_that_leads_to_chains_has_a_twin_for_answers() -> None:
    text = lay_out(tenant(*BUCKETS)).text("v2/rules/k", "refuse", {})
    maps = re.findall(r"^map (\S+)", text, re.M)
    assert maps == ["v2/rules/k/tenant/4/17/0", "v2/rules/k/tenant/4/17/0/reply"]
    assert "counter\n  elements" not in text  # the chains count


def test_every_object_is_deleted_and_what_leads_to_it_before() -> None:
    parts = (Part(Stratum.ADMIN, ident(11), (rule(1, "pass"), *BUCKETS)), *tenant(*BUCKETS, *MANY))
    layout = lay_out(parts)
    text, titles = layout.text("v2/rules/k", "refuse", {}), layout.titles("v2/rules/k")
    assert sorted(titles) == sorted(re.findall(r"^(chain|map) (\S+)", text, re.M))
    order = {title: place for place, title in enumerate(titles)}
    for kind, title, body in re.findall(r"^(chain|map) (\S+) \{\n(.*?)^\}", text, re.M | re.S):
        for target in re.findall(r"goto (v2\S+?),?(?:\s|$)", body):
            assert order[kind, title] < order["chain", target]
        for target in re.findall(r"vmap @(\S+)", body):
            assert order[kind, title] < order["map", target]


def test_a_layout_is_made_once_and_again_when_the_list_changes() -> None:
    layouts = Layouts()
    made = layouts.of("k", tenant(WEB))
    assert layouts.of("k", tenant(WEB)) is made
    assert layouts.of("k", tenant(*MANY)) is not made
