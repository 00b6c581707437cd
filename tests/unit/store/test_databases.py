"""What holds on each of the three databases alike."""

import threading
from collections.abc import Iterator
from datetime import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from portward.service.status import note_realised
from portward.store import Store, StoreError, check_revision, raise_generation, upgrade
from portward.store.tables import Base, FirewallGroup, FirewallPolicy, FirewallRule, GroupPort, Host, Port, State
from servers.fixtures import empty
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL

_WHEN = datetime(2026, 1, 2, 3, 4, 5, 999999)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    empty(database_url)
    store = Store(database_url)
    yield store
    store.close()


def _rule(name: str, id_: str = "r") -> FirewallRule:
    return FirewallRule(id=id_, project_id="p", name=name, created_at=_WHEN, updated_at=_WHEN)


def test_migrations_build_exactly_the_tables_of_the_model(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_second_upgrade_changes_nothing(blank_url: str) -> None:
    assert upgrade(blank_url) == upgrade(blank_url)
    check_revision(blank_url)


def test_replicas_that_start_at_once_upgrade_one_after_the_other(blank_url: str) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            upgrade(blank_url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_writer_sees_what_was_committed_while_it_waited(store: Store, database_url: str) -> None:
    """Two connections: the second begins and waits for the lock before the first commits, then must see its rule."""
    other = Store(database_url)
    seen: list[str | None] = []

    def second() -> None:
        seen.append(other.writing(lambda session: session.scalar(select(FirewallRule.name))))

    with store.write() as session:
        session.add(_rule("first"))
        session.flush()
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(10)
    repeated = other.repeated
    other.close()
    assert seen == ["first"]
    assert repeated == 0


def test_no_generation_is_lost_among_writers_of_several_processes(store: Store, database_url: str) -> None:
    others = [store, Store(database_url)]
    seen: list[int] = []

    def write(to: Store) -> None:
        seen.extend(to.writing(raise_generation) for _ in range(10))

    threads = [threading.Thread(target=write, args=(others[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    others[1].close()
    assert sorted(seen) == list(range(1, 81))


def test_a_reader_keeps_its_snapshot_while_others_write(store: Store) -> None:
    with store.read() as session:
        before = session.scalar(select(State.generation))
        store.writing(raise_generation)
        session.expire_all()
        assert session.scalar(select(State.generation)) == before
    assert store.generation() == 1


def test_text_is_equal_only_when_every_character_is(store: Store) -> None:
    store.writing(lambda session: session.add(_rule("Défaut 🔥")))

    def found(name: str) -> bool:
        return (
            store.reading(lambda session: session.scalar(select(FirewallRule.id).where(FirewallRule.name == name)))
            == "r"
        )

    assert [found(name) for name in ("Défaut 🔥", "défaut 🔥", "Defaut 🔥", "Défaut 🔥 ", "Défaut 💧")] == [
        True,
        *[False] * 4,
    ]


def test_order_and_comparison_of_text_agree(store: Store) -> None:
    names = ["", " ", "A", "B", "Z", "a", "a ", "ab", "ä", "é", "~", "🔥"]
    store.writing(lambda session: session.add_all(_rule(name, str(number)) for number, name in enumerate(names)))

    def after(name: str) -> list[str]:
        query = select(FirewallRule.name).where(FirewallRule.name > name).order_by(FirewallRule.name)
        return store.reading(lambda session: list(session.scalars(query)))

    ordered = store.reading(
        lambda session: list(session.scalars(select(FirewallRule.name).order_by(FirewallRule.name)))
    )
    assert all(after(name) == ordered[place + 1 :] for place, name in enumerate(ordered))


def test_values_come_back_as_they_went_in(store: Store) -> None:
    port = Port(
        id="p", project_id="p", created_at=_WHEN, updated_at=_WHEN, revision_number=2**62, port_security_enabled=False
    )
    port.fixed_ips = [{"subnet_id": "🔥", "ip_address": "::1"}]
    store.writing(lambda session: session.add(port))
    with store.read() as session:
        found = session.scalars(select(Port)).one()
        assert (found.created_at, found.revision_number, found.port_security_enabled) == (_WHEN, 2**62, False)
        assert found.fixed_ips == [{"subnet_id": "🔥", "ip_address": "::1"}]


def test_a_restarted_server_costs_no_call(postgresql: PostgreSQL, mariadb: MariaDB) -> None:
    for server in (postgresql, mariadb):
        url = server.create()
        upgrade(url)
        store = Store(url)
        store.writing(raise_generation)
        server.stop()
        server.start()
        assert store.writing(raise_generation) == 2
        assert store.generation() == 2
        store.close()


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_a_connection_lost_before_the_commit_repeats_the_call(store: Store) -> None:
    attempts = []

    def call(session: Session) -> int:
        attempts.append(1)
        generation = raise_generation(session)
        if len(attempts) == 1:
            _cut(store, session)
            session.scalar(select(State.generation))
        return generation

    assert store.writing(call) == 1
    assert (len(attempts), store.repeated) == (2, 1)


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_a_connection_lost_in_the_commit_is_not_repeated(store: Store) -> None:
    """The commit may have been done."""

    def call(session: Session) -> None:
        raise_generation(session)
        _cut(store, session)

    with pytest.raises(StoreError, match="in a commit"):
        store.writing(call)
    assert store.repeated == 0


def _cut(store: Store, session: Session) -> None:
    """End the session's connection, as a server that stops does."""
    postgresql = store.engine.dialect.name == "postgresql"
    number = session.scalar(text("SELECT pg_backend_pid()" if postgresql else "SELECT CONNECTION_ID()"))
    with store.engine.connect() as other:
        other.execute(text(f"SELECT pg_terminate_backend({number}, 5000)" if postgresql else f"KILL {number}"))


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_what_is_wrong_with_a_server_is_said_without_the_password(request: pytest.FixtureRequest, kind: str) -> None:
    server: PostgreSQL | MariaDB = request.getfixturevalue(kind)
    create = {
        "postgresql": "CREATE ROLE guarded LOGIN PASSWORD 'right'",
        "mariadb": "CREATE USER guarded IDENTIFIED BY 'right'",
    }
    server.execute(create[kind])
    name = server.create().split("/test")[1].split("?")[0]
    for url in (
        server.url(f"test{name}", "guarded", "s3cret"),
        server.url("nowhere"),
        f"{kind}://u:s3cret@127.0.0.1:1/x",
    ):
        for use in (upgrade, check_revision):
            with pytest.raises(StoreError, match=r"the database .* cannot be") as raised:
                use(url)
            assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_a_report_does_not_mark_a_group_that_changes_at_the_same_time(store: Store, database_url: str) -> None:
    """The report judged generation 1, and waits for a writer that makes it 2: its mark would be wrong."""
    group = FirewallGroup(id="g", project_id="p", created_at=_WHEN, updated_at=_WHEN, changed_at=_WHEN, generation=1)
    port = Port(id="port", project_id="p", created_at=_WHEN, updated_at=_WHEN, host="h")
    host = Host(name="h", token_hash="", created_at=_WHEN, realised_generation=1)
    store.writing(lambda session: session.add_all([group, port, host]))
    store.writing(lambda session: session.add(GroupPort(group_id="g", port_id="port", position=0)))
    other = Store(database_url)
    with store.write() as session:
        session.execute(update(FirewallGroup).values(generation=2))
        thread = threading.Thread(
            target=other.writing, args=(lambda session: note_realised(session, "h"),), kwargs={"ordered": False}
        )
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(10)
    other.close()
    assert store.reading(lambda session: session.scalar(select(FirewallGroup.realised_once))) is False
    store.writing(lambda session: session.execute(update(Host).values(realised_generation=2)))
    store.writing(lambda session: note_realised(session, "h"), ordered=False)
    assert store.reading(lambda session: session.scalar(select(FirewallGroup.realised_once))) is True


@pytest.mark.parametrize("database_url", ["postgresql", "mariadb"], indirect=True)
def test_of_two_hosts_that_report_at_the_same_time_the_later_one_marks_their_group(
    store: Store, database_url: str
) -> None:
    group = FirewallGroup(id="g", project_id="p", created_at=_WHEN, updated_at=_WHEN, changed_at=_WHEN, generation=1)
    names = ("h1", "h2")
    ports = [Port(id=name, project_id="p", created_at=_WHEN, updated_at=_WHEN, host=name) for name in names]
    hosts = [Host(name=name, token_hash=name, created_at=_WHEN) for name in names]
    store.writing(lambda session: session.add_all([group, *ports, *hosts]))
    members = [GroupPort(group_id="g", port_id=name, position=place) for place, name in enumerate(names)]
    store.writing(lambda session: session.add_all(members))

    def report(session: Session, name: str) -> None:
        session.execute(update(Host).where(Host.name == name).values(realised_generation=1))
        note_realised(session, name)

    other = Store(database_url)
    with store.write(ordered=False) as session:
        report(session, "h1")
        thread = threading.Thread(
            target=other.writing, args=(lambda session: report(session, "h2"),), kwargs={"ordered": False}
        )
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(10)
    other.close()
    assert store.reading(lambda session: session.scalar(select(FirewallGroup.realised_once))) is True


def test_rows_of_the_first_revision_survive_the_upgrade(blank_url: str) -> None:
    upgrade(blank_url, to="0001")
    with pytest.raises(StoreError, match="revision 0001"):
        check_revision(blank_url)
    store = Store(blank_url)
    columns = "id, project_id, name, description, revision_number, created_at, updated_at, shared, audited, version"
    values = f"'x', 'p', '🔥', '', 7, '{_WHEN}', '{_WHEN}', false, true, 3"
    store.writing(lambda session: session.execute(text(f"INSERT INTO firewall_policies ({columns}) VALUES ({values})")))
    upgrade(blank_url)
    with store.read() as session:
        found = session.scalars(select(FirewallPolicy)).one()
        assert (found.name, found.revision_number, found.created_at, found.audited) == ("🔥", 7, _WHEN, True)
    store.close()
