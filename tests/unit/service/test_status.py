"""The status of a group, from what its hosts reported."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from portward.model import PortReport, Report
from portward.service.agents import add_host, record_report
from portward.service.status import PortRealisation, Status, UnknownGroup, group_statuses, realisation
from portward.store import tables
from unit.service.database import NOW, add_group, add_port, counted_statements, empty_database, uuid


def _report(session: Session, host: str, generation: int, **errors: str | None) -> None:
    ports = tuple(PortReport(port_id=uuid(int(name[1:])), error=error) for name, error in errors.items())
    record_report(session, host, Report(generation=generation, ports=ports))


def _change(session: Session, group: str, generation: int) -> None:
    session.execute(update(tables.State).values(generation=generation))
    session.execute(
        update(tables.FirewallGroup)
        .where(tables.FirewallGroup.id == group)
        .values(generation=generation, changed_at=NOW)
        .execution_options(synchronize_session=False)
    )


def _status(session: Session, group: str, seconds: float = 0) -> Status:
    return group_statuses(session, [group], NOW + timedelta(seconds=seconds))[group]


def _two_hosts() -> tuple[Session, str]:
    session = empty_database()
    add_host(session, "h1", NOW)
    add_host(session, "h2", NOW)
    group = add_group(session, 7, ports=(add_port(session, 1), add_port(session, 2, host="h2")))
    return session, group


def test_a_group_without_ports_is_inactive_even_when_it_is_down():
    session = empty_database()

    assert _status(session, add_group(session, 7)) is Status.INACTIVE
    assert _status(session, add_group(session, 8, admin_state_up=False)) is Status.INACTIVE


def test_a_group_is_pending_create_until_all_its_hosts_have_realised_it():
    session, group = _two_hosts()
    assert _status(session, group) is Status.PENDING_CREATE

    _report(session, "h1", 10, p1=None)
    assert _status(session, group) is Status.PENDING_CREATE
    _report(session, "h2", 10, p2=None)

    assert _status(session, group) is Status.ACTIVE


def test_a_group_that_was_realised_is_pending_update_after_a_change():
    session, group = _two_hosts()
    _report(session, "h1", 10, p1=None)
    _report(session, "h2", 10, p2=None)

    _change(session, group, 11)
    assert _status(session, group) is Status.PENDING_UPDATE
    _report(session, "h1", 11, p1=None)
    assert _status(session, group) is Status.PENDING_UPDATE
    _report(session, "h2", 11, p2=None)

    assert _status(session, group) is Status.ACTIVE


def test_a_realised_group_that_is_switched_off_is_down():
    session = empty_database()
    add_host(session, "h1", NOW)
    group = add_group(session, 7, ports=(add_port(session, 1),), admin_state_up=False)
    assert _status(session, group) is Status.PENDING_CREATE

    _report(session, "h1", 10, p1=None)

    assert _status(session, group) is Status.DOWN


def test_an_error_of_one_port_is_the_groups_until_that_port_is_realised():
    session, group = _two_hosts()
    _report(session, "h1", 10, p1="no such device")
    assert _status(session, group) is Status.ERROR
    _report(session, "h2", 10, p2=None)
    assert _status(session, group) is Status.ERROR

    _report(session, "h1", 10, p1=None)

    assert _status(session, group) is Status.ACTIVE


def test_an_error_about_an_earlier_generation_does_not_count():
    session, group = _two_hosts()
    _report(session, "h1", 10, p1="no such device")

    _change(session, group, 11)

    assert _status(session, group) is Status.PENDING_CREATE


def test_a_host_has_sixty_seconds():
    session, group = _two_hosts()
    _report(session, "h1", 10, p1=None)

    assert _status(session, group, seconds=60) is Status.PENDING_CREATE
    assert _status(session, group, seconds=61) is Status.ERROR
    _report(session, "h2", 10, p2=None)
    assert _status(session, group, seconds=1000) is Status.ACTIVE


def test_a_port_bound_on_no_host_counts_as_realised():
    session = empty_database()
    group = add_group(session, 7, ports=(add_port(session, 1, host=""),))

    assert _status(session, group, seconds=1000) is Status.ACTIVE


def test_a_port_on_a_host_that_is_not_registered_is_not_realised():
    session = empty_database()
    group = add_group(session, 7, ports=(add_port(session, 1, host="nobody"),))

    assert _status(session, group) is Status.PENDING_CREATE
    assert _status(session, group, seconds=61) is Status.ERROR


def test_realised_once_is_not_set_while_a_port_is_in_error():
    session, group = _two_hosts()
    _report(session, "h2", 10, p2=None)
    _report(session, "h1", 10, p1="no such device")

    stored = select(tables.FirewallGroup.realised_once).where(tables.FirewallGroup.id == group)
    assert session.scalar(stored) is False
    _report(session, "h1", 10, p1=None)
    assert session.scalar(stored) is True


def test_realisation_says_port_by_port_who_and_why():
    session = empty_database()
    add_host(session, "h1", NOW)
    add_host(session, "h2", NOW)
    ports = (
        add_port(session, 4),
        add_port(session, 3, host="h2"),
        add_port(session, 2, host=""),
        add_port(session, 1, host="nobody"),
    )
    group = add_group(session, 7, ports=ports)
    _report(session, "h1", 10, p4="no such device")
    _report(session, "h2", 9, p3=None)

    found = realisation(session, group, NOW)

    assert found.status is Status.ERROR
    assert found.ports == (
        PortRealisation(port_id=uuid(4), host="h1", generation=10, realised=False, error="no such device"),
        PortRealisation(port_id=uuid(3), host="h2", generation=9, realised=False, error=None),
        PortRealisation(port_id=uuid(2), host="", generation=None, realised=True, error=None),
        PortRealisation(port_id=uuid(1), host="nobody", generation=None, realised=False, error=None),
    )


def test_a_group_without_ports_has_a_realisation_and_an_unknown_one_has_none():
    session = empty_database()

    assert realisation(session, add_group(session, 7), NOW).ports == ()
    with pytest.raises(UnknownGroup):
        realisation(session, uuid(99), NOW)
    assert group_statuses(session, [uuid(99)], NOW) == {}


def test_statuses_take_as_many_statements_for_forty_groups_as_for_one():
    session = empty_database()
    groups = [add_group(session, 100 + number, ports=(add_port(session, number),)) for number in range(1, 41)]

    with counted_statements(session) as of_list:
        found = group_statuses(session, groups, NOW)
    with counted_statements(session) as of_one:
        realisation(session, groups[0], NOW)

    assert len(found) == 40
    assert (len(of_list), len(of_one)) == (1, 2)
