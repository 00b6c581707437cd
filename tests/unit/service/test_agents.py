"""Hosts, tokens and reports."""

from datetime import timedelta

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from portward.model import PortReport, Report
from portward.service.agents import (
    ForeignPorts,
    HostExists,
    InvalidHostName,
    InvalidToken,
    UnknownHost,
    add_host,
    authenticate,
    list_hosts,
    record_poll,
    record_report,
    revoke,
)
from portward.store import tables
from unit.service.database import NOW, add_group, add_port, empty_database, uuid


def _report(generation: int, **errors: str | None) -> Report:
    """``_report(5, p1="broken", p2=None)``: ports by their number."""
    ports = tuple(PortReport(port_id=uuid(int(name[1:])), error=error) for name, error in errors.items())
    return Report(generation=generation, ports=ports)


def _errors(session: Session) -> dict[str, tuple[int, str]]:
    return {row.port_id: (row.generation, row.reason) for row in session.scalars(select(tables.PortError))}


def _realised(session: Session, host: str = "h1") -> int:
    return session.scalar(select(tables.Host.realised_generation).where(tables.Host.name == host)) or 0


def test_a_token_is_that_of_its_host_and_is_not_in_the_database():
    session = empty_database()
    token, other = add_host(session, "h1", NOW), add_host(session, "h2", NOW)

    assert authenticate(session, token) == "h1"
    assert authenticate(session, other) == "h2"
    assert len(token) >= 43  # 256 bits in base 64
    stored = session.scalars(select(tables.Host)).all()
    columns = inspect(tables.Host).columns.keys()
    assert not [host for host in stored if token in [getattr(host, column) for column in columns]]


@pytest.mark.parametrize("token", ["", "x", "é", "a" * 10000])
def test_an_unknown_token_is_refused(token: str):
    session = empty_database()
    add_host(session, "h1", NOW)

    with pytest.raises(InvalidToken):
        authenticate(session, token)


def test_a_revoked_token_is_refused_and_the_host_can_get_a_new_one():
    session = empty_database()
    token = add_host(session, "h1", NOW)
    revoke(session, "h1", NOW)

    with pytest.raises(InvalidToken):
        authenticate(session, token)
    renewed = add_host(session, "h1", NOW)
    assert authenticate(session, renewed) == "h1"
    with pytest.raises(InvalidToken):
        authenticate(session, token)


def test_a_host_with_a_working_token_does_not_get_another():
    session = empty_database()
    add_host(session, "h1", NOW)

    with pytest.raises(HostExists, match="host revoke h1"):
        add_host(session, "h1", NOW)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 256, "h\n"])
def test_a_name_that_no_host_has_is_refused(name: str):
    with pytest.raises(InvalidHostName):
        add_host(empty_database(), name, NOW)


def test_revoking_an_unknown_host_says_so():
    with pytest.raises(UnknownHost, match="nobody"):
        revoke(empty_database(), "nobody", NOW)


def test_a_host_is_silent_until_it_asks_and_75_seconds_after_it_last_asked():
    session = empty_database()
    add_host(session, "h1", NOW)
    assert list_hosts(session, NOW)[0].silent

    record_poll(session, "h1", NOW)

    assert not list_hosts(session, NOW + timedelta(seconds=75))[0].silent
    assert list_hosts(session, NOW + timedelta(seconds=76))[0].silent


def test_a_report_replaces_all_that_the_host_said_before():
    session = empty_database()
    add_host(session, "h1", NOW)
    first, second = add_port(session, 1), add_port(session, 2)

    record_report(session, "h1", _report(5, p1="no device", p2=None))
    assert _errors(session) == {first: (5, "no device")}
    record_report(session, "h1", _report(5, p1=None, p2="no namespace"))
    assert _errors(session) == {second: (5, "no namespace")}
    record_report(session, "h1", _report(6, p1=None, p2=None))

    assert _errors(session) == {}
    assert _realised(session) == 6


def test_a_late_report_is_passed_over():
    session = empty_database()
    add_host(session, "h1", NOW)
    add_port(session, 1)
    record_report(session, "h1", _report(6, p1=None))

    record_report(session, "h1", _report(5, p1="old news"))

    assert (_realised(session), _errors(session)) == (6, {})


def test_a_report_above_the_database_is_passed_over():
    session = empty_database(generation=10)
    add_host(session, "h1", NOW)
    add_port(session, 1)

    record_report(session, "h1", _report(11, p1="x"))

    assert (_realised(session), _errors(session)) == (0, {})


def test_a_report_about_a_port_of_another_host_is_refused_whole():
    session = empty_database()
    add_host(session, "h1", NOW)
    add_port(session, 1)
    foreign = add_port(session, 2, host="h2")

    with pytest.raises(ForeignPorts, match=foreign):
        record_report(session, "h1", _report(5, p1="x", p2=None))
    assert (_realised(session), _errors(session)) == (0, {})


def test_a_report_about_a_port_that_is_gone_or_bound_nowhere_is_taken_without_it():
    session = empty_database()
    add_host(session, "h1", NOW)
    add_port(session, 1, host="")

    record_report(session, "h1", _report(5, p1="x", p77="y"))

    assert (_realised(session), _errors(session)) == (5, {})


def test_a_report_leaves_the_errors_of_other_hosts():
    session = empty_database()
    add_host(session, "h1", NOW)
    add_host(session, "h2", NOW)
    add_port(session, 1)
    other = add_port(session, 2, host="h2")
    record_report(session, "h2", _report(5, p2="theirs"))

    record_report(session, "h1", _report(6, p1=None))

    assert _errors(session) == {other: (5, "theirs")}


def test_an_error_is_stored_without_nul_and_at_most_1000_characters_long():
    session = empty_database()
    add_host(session, "h1", NOW)
    port = add_port(session, 1)

    record_report(session, "h1", _report(5, p1="a\0b" + "c" * 5000))

    reason = _errors(session)[port][1]
    assert reason.startswith("abc")
    assert len(reason) == 1000


def test_a_report_is_no_edit():
    session = empty_database()
    add_host(session, "h1", NOW)
    group = add_group(session, 7, ports=(add_port(session, 1),), revision_number=3)

    record_report(session, "h1", _report(10, p1=None))

    row = session.execute(
        select(tables.FirewallGroup.revision_number, tables.FirewallGroup.updated_at).where(
            tables.FirewallGroup.id == group
        )
    ).one()
    assert tuple(row) == (3, NOW)
    assert session.scalar(select(tables.State.generation)) == 10
