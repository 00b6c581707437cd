from ipaddress import ip_network

import msgspec
import pytest

from portward.compiler import Field, Form, Hash, Linear, Ranges, Table, compile_rules, evaluate
from portward.compiler.form import KeyPart
from portward.model import ICMP, SCTP, TCP, UDP, Action, Address, IPVersion, Packet, PortRange, Prefix, Rule


def rule(
    protocol: int | None = TCP,
    source: str | None = None,
    ports: tuple[int, int] | None = None,
    *,
    destination: str | None = None,
    enabled: bool = True,
    version: IPVersion = 4,
) -> Rule:
    def prefix(text: str | None) -> Prefix | None:
        return None if text is None else ip_network(text, strict=False)

    return Rule(
        id="r",
        action=Action.ALLOW,
        enabled=enabled,
        ip_version=version,
        protocol=protocol,
        source=prefix(source),
        destination=prefix(destination),
        destination_port=None if ports is None else PortRange(*ports),
    )


def only_table(form: Form) -> Table:
    (table,) = form.tables
    return table


def test_no_rules_make_no_table() -> None:
    assert compile_rules([]) == Form((), frozenset())


def test_a_disabled_rule_takes_no_part() -> None:
    form = compile_rules([rule(enabled=False), rule(ports=(1, 2))])
    assert [element.rule for element in only_table(form).ordered] == [1]
    assert form.unreachable == {0}


def test_a_protocol_whose_rules_name_ports_has_a_table_of_its_own() -> None:
    form = compile_rules([rule(UDP, ports=(53, 53)), rule(None, "10.0.0.0/8"), rule(ICMP, version=6)])
    assert [(table.version, table.protocol) for table in form.tables] == [(4, UDP), (4, None), (6, 58)]


def test_a_rule_of_any_protocol_stands_in_every_table_of_its_version() -> None:
    form = compile_rules([rule(TCP, ports=(1, 1)), rule(UDP, ports=(1, 1)), rule(None)])
    assert [[element.rule for element in table.ordered] for table in form.tables] == [[0, 2], [1, 2], [2]]


def test_many_protocols_beside_many_rules_of_any_protocol_share_one_table() -> None:
    wild = [rule(None, f"10.0.{number}.0/24") for number in range(100)]
    form = compile_rules([*(rule(protocol) for protocol in range(100, 130)), *wild])
    assert len(form.tables) <= 2
    assert sum(len(table.ordered) for table in form.tables) <= 2 * 130


def test_a_rule_is_reachable_when_one_protocol_still_reaches_it() -> None:
    rules = [rule(TCP), rule(None, "10.0.0.0/8"), rule(TCP, "10.1.0.0/16")]
    assert compile_rules(rules).unreachable == {2}


def test_few_rules_stay_linear_in_their_order() -> None:
    table = only_table(compile_rules([rule(source="10.0.0.0/24", ports=(1, 9)), rule(source="10.0.0.0/8")]))
    (step,) = table.steps
    assert isinstance(step, Linear)
    assert [element.rule for element in step.members] == [0, 1]


def test_addresses_with_a_port_are_one_exact_lookup() -> None:
    table = only_table(compile_rules([rule(source=f"10.0.0.{n}/32", ports=(n, n)) for n in range(200)]))
    (step,) = table.steps
    assert isinstance(step, Hash)
    assert step.key == (KeyPart(Field.SOURCE, 32), KeyPart(Field.DESTINATION_PORT, 16))
    assert {len(bucket) for bucket in step.buckets.values()} == {1}


def test_networks_of_one_size_with_ranges_are_buckets_under_a_masked_key() -> None:
    rules = [rule(source=f"10.{n // 256}.{n % 256}.0/24", ports=(n, n + 100)) for n in range(20)]
    (step,) = only_table(compile_rules(rules)).steps
    assert isinstance(step, Hash)
    assert step.key == (KeyPart(Field.SOURCE, 24),)


def test_more_buckets_than_are_worth_their_chains_are_a_lookup_of_intervals() -> None:
    rules = [rule(source=f"10.{n // 256}.{n % 256}.0/24", ports=(n, n + 100)) for n in range(1000)]
    (step,) = only_table(compile_rules(rules)).steps
    assert isinstance(step, Ranges)


def test_what_only_port_ranges_tell_apart_is_a_lookup_of_intervals_that_begins_with_them() -> None:
    rules = [rule(source=f"10.{n % 4}.0.0/{16 + n % 3}", ports=(8 * n, 8 * n + 7)) for n in range(200)]
    (step,) = only_table(compile_rules(rules)).steps
    assert isinstance(step, Ranges)
    assert step.fields == (Field.DESTINATION_PORT, Field.SOURCE)


def test_a_wide_rule_at_the_end_is_tried_after_the_lookup_of_the_narrow_ones() -> None:
    narrow = [rule(source=f"10.0.{n}.1/32", ports=(n, n)) for n in range(200)]
    lookup, tail = only_table(compile_rules([*narrow, rule(source="10.0.0.0/8")])).steps
    assert isinstance(lookup, Hash)
    assert isinstance(tail, Linear)


def test_a_wide_rule_at_the_top_is_tried_before_the_lookup() -> None:
    narrow = [rule(source=f"10.0.{n}.1/32", ports=(n, n)) for n in range(200)]
    head, lookup = only_table(compile_rules([rule(destination="10.9.0.0/16"), *narrow])).steps
    assert isinstance(head, Linear)
    assert isinstance(lookup, Hash)


def test_every_element_that_can_be_first_stands_in_one_step() -> None:
    rules = [rule(source=f"10.{n % 7}.0.0/{9 + n % 20}", ports=(n, 200 - n)) for n in range(100)]
    for table in compile_rules(rules).tables:
        inside = sorted(element for step in table.steps for element in step.elements())
        assert inside == sorted(table.ordered)


def test_a_later_fragment_is_matched_by_any_port_and_by_no_range() -> None:
    fragment = Packet(source=ip("10.0.0.1"), destination=ip("10.0.0.2"), protocol=SCTP, is_later_fragment=True)
    assert evaluate(compile_rules([rule(SCTP, ports=(0, 65535)), rule(SCTP)]), fragment) == 1
    assert evaluate(compile_rules([rule(SCTP, ports=(0, 9)), rule(SCTP, ports=(10, 65535))]), fragment) is None


def ip(text: str) -> Address:
    return ip_network(text)[0]


STAIRS = [
    msgspec.structs.replace(rule(ports=(30000 - n, 65535 - n)), source_port=PortRange(n, n + 30000))
    for n in range(3000)
]
NESTED = [rule(ports=(20000 - n, 20000 + n)) for n in range(3000)]
PORTS = [rule(ports=(21 * n, 21 * n + 20)) for n in range(3000)]
WILD = [rule((TCP, UDP, SCTP, ICMP, 47, None)[n % 6], f"{n % 256}.0.0.0/{1 + n % 8}") for n in range(3000)]


NETS = [rule(source=f"10.{n % 251}.{n % 241}.0/{28 - n // 150}", ports=(n, n + 9)) for n in range(3000)]


@pytest.mark.parametrize(
    "rules", [STAIRS, NESTED, PORTS, WILD, NETS], ids=["stairs", "nested", "ports", "wild", "nets of every size"]
)
def test_hard_policies_grow_neither_in_elements_nor_in_steps(rules: list[Rule]) -> None:
    form = compile_rules(rules)
    assert sum(len(table.ordered) for table in form.tables) <= 6 * len(rules)
    for table in form.tables:
        assert len(table.steps) <= 17
        assert sum(isinstance(step, Hash) for step in table.steps) <= 4
        assert sum(1 for step in table.steps for _ in step.elements()) == len(table.ordered)
