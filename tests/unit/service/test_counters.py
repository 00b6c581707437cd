"""What hosts counted, stored by host and summed by rule."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from portward.channel.messages import Total
from portward.service.agents import add_host
from portward.service.counters import policy_counters, record_counters
from portward.store import Store, tables
from servers.fixtures import empty
from unit.service.database import (
    NOW,
    add_group,
    add_policy,
    add_port,
    add_rule,
    counted_statements,
    uuid,
)

SINCE = datetime(2026, 1, 2, 3, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


def total(packets: int, *, since: datetime = SINCE, last: datetime | None = None) -> Total:
    return Total(packets=packets, bytes=100 * packets, since=since, last=last)


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """Policy 5 of rules 2, 1 and 3 is enforced by h1 (ingress) and h2 (egress); rule 4 stands nowhere."""
    empty(database_url)
    store = Store(database_url)
    with store.write(ordered=False) as session:
        _fill(session)
        yield session
    store.close()


def _fill(session: Session) -> None:
    for host in ("h1", "h2", "h3"):
        add_host(session, host, NOW)
    for number in (1, 2, 3, 4):
        add_rule(session, number, name=f"rule {number}")
    policy = add_policy(session, 5, rules=(uuid(2), uuid(1), uuid(3)))
    add_group(session, 7, ports=(add_port(session, 10),), ingress_firewall_policy_id=policy)
    add_group(session, 8, ports=(add_port(session, 11, host="h2"),), egress_firewall_policy_id=policy)
    add_port(session, 12, host="h3")


def packets(session: Session) -> dict[str, int]:
    return {counts.rule_name: counts.packets for counts in policy_counters(session, uuid(5))}


def test_rules_are_shown_in_the_policys_order_with_the_sums_over_hosts(session: Session):
    later = SINCE + HOUR
    record_counters(session, "h1", {uuid(1): total(3, last=later), uuid(2): total(0)})
    record_counters(session, "h2", {uuid(1): total(4, since=later, last=SINCE + 2 * HOUR)})

    shown = policy_counters(session, uuid(5))

    assert [(counts.rule_id, counts.packets, counts.bytes) for counts in shown] == [
        (uuid(2), 0, 0),
        (uuid(1), 7, 700),
        (uuid(3), 0, 0),
    ]
    naive = SINCE.replace(tzinfo=None)
    assert [(counts.last, counts.since) for counts in shown] == [
        (None, naive),
        (naive + 2 * HOUR, naive),
        (None, None),
    ]


def test_a_message_that_is_repeated_or_late_changes_nothing(session: Session):
    for number in (3, 5, 5, 3):
        record_counters(session, "h1", {uuid(1): total(number)})
    assert packets(session)["rule 1"] == 5


def test_a_host_that_begins_again_goes_on_from_what_it_had(session: Session):
    record_counters(session, "h1", {uuid(1): total(5)})
    record_counters(session, "h1", {uuid(1): total(2, since=SINCE + HOUR)})
    record_counters(session, "h1", {uuid(1): total(3, since=SINCE + HOUR)})
    record_counters(session, "h1", {uuid(1): total(6)})
    (counts,) = [counts for counts in policy_counters(session, uuid(5)) if counts.rule_id == uuid(1)]
    assert (counts.packets, counts.bytes) == (8, 800)
    assert counts.since == SINCE.replace(tzinfo=None)


def test_rules_that_the_host_does_not_enforce_are_passed_over(session: Session):
    for host in ("h1", "h3", "nobody"):
        record_counters(session, host, {uuid(4): total(5), uuid(99): total(5)})
    record_counters(session, "h3", {uuid(1): total(5)})
    assert session.scalars(select(tables.RuleCounter)).all() == []


def test_a_rule_that_is_deleted_takes_its_counts_with_it(session: Session):
    record_counters(session, "h1", {uuid(1): total(5)})
    session.execute(delete(tables.PolicyRule).where(tables.PolicyRule.rule_id == uuid(1)))
    session.execute(delete(tables.FirewallRule).where(tables.FirewallRule.id == uuid(1)))
    assert session.scalars(select(tables.RuleCounter)).all() == []


def test_a_message_costs_a_constant_number_of_statements_however_many_rules_it_has(session: Session):
    sent = []
    for numbers in (range(1, 2), range(1, 4)):
        with counted_statements(session) as statements:
            record_counters(session, "h1", {uuid(number): total(len(sent) + 1) for number in numbers})
        sent.append(len(statements))
    assert max(sent) <= 5
