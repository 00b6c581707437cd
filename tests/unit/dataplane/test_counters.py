"""What the layout promises to whoever reads counters."""

import re

from portward.dataplane.lists import Part
from portward.dataplane.nftables.layout import lay_out
from portward.model import Action, PortRange, Rule, Stratum
from unit.agent.values import uuid


def _rules(number: int) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            id=uuid(port),
            action=Action.DENY if port % 3 else Action.ALLOW,
            protocol=6,
            destination_port=PortRange(port, port),
        )
        for port in range(1, number + 1)
    )


def test_every_rule_of_a_list_bears_its_id_where_it_counts():
    body = lay_out((Part(Stratum.TENANT, uuid(9000), _rules(200)),)).body
    assert set(re.findall(r'comment "([0-9a-f-]{36})"', body)) == {rule.id for rule in _rules(200)}
    for line in body.splitlines():
        assert ("comment" in line) <= ("counter" in line or " : " in line), line


def test_a_hash_says_its_size_as_one_that_grows_is_not_read_exactly():
    body = lay_out((Part(Stratum.TENANT, uuid(9000), _rules(200)),)).body
    maps = re.findall(r"map \S+ \{\n(.*?)\n\}\n", body, re.DOTALL)
    assert maps
    for text in maps:
        if "flags interval" not in text:
            (size,) = re.findall(r"size (\d+)$", text, re.MULTILINE)
            assert int(size) == text.count(" : ") - 1  # the first is the type's
