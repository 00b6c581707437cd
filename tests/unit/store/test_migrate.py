"""From nothing, or from an older database, to the tables of this release."""

import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from portward.config import ConfigurationError
from portward.store import Store, StoreError, TablesMissing, check_revision, upgrade
from portward.store.tables import Base


def test_migrations_build_exactly_the_tables_of_the_model(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_give_constraints_the_names_of_the_convention(store: Store) -> None:
    inspector = inspect(store.engine)
    for table in Base.metadata.sorted_tables:
        built = {item["name"] for item in inspector.get_foreign_keys(table.name)}
        built |= {item["name"] for item in inspector.get_unique_constraints(table.name)}
        built.add(inspector.get_pk_constraint(table.name)["name"])
        built |= {item["name"] for item in inspector.get_indexes(table.name)}
        named = {item.name for item in table.constraints} | {item.name for item in table.indexes}
        assert built - {None} == named


def test_a_second_upgrade_changes_nothing(url: str) -> None:
    assert upgrade(url) == upgrade(url)
    store = Store(url)
    assert store.generation() == 0
    store.close()


def test_the_directory_of_a_new_database_is_its_owners_alone(url: str, tmp_path: Path) -> None:
    upgrade(url)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_database_of_a_newer_release_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    upgrade(url)
    with sqlite3.connect(tmp_path / "state/portward.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"revision 9999.*newer"):
        upgrade(url)


def test_a_damaged_database_is_refused_in_clear_words(url: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/portward.db").write_bytes(b"this is not a database, it is a poem" * 100)
    with pytest.raises(StoreError, match="restore a backup"):
        upgrade(url)


def test_a_database_that_cannot_be_opened_is_refused_in_clear_words(url: str, tmp_path: Path) -> None:
    (tmp_path / "state/portward.db").mkdir(parents=True)
    with pytest.raises(StoreError, match="unable to open database file"):
        upgrade(url)


def test_a_directory_that_cannot_be_made_is_refused_in_clear_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        upgrade(f"sqlite:///{tmp_path}/file/portward.db")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite+aiosqlite:////tmp/x.db",
        "oracle://user:secret@host/portward",
        "postgresql://user:secret@host",
        "postgresql+asyncpg://user:secret@host/portward",
        "mariadb://user:secret@host",
        "x://h:p/",
    ],
)
def test_a_url_of_no_database_is_a_configuration_error_that_does_not_tell_its_password(url: str) -> None:
    for use in (upgrade, check_revision, Store):
        with pytest.raises(ConfigurationError, match=r"\[database\] url.*give") as raised:
            use(url)
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "damage", ["DELETE FROM state", "INSERT INTO alembic_version VALUES ('0000')", "UPDATE state SET id = 2"]
)
def test_a_database_that_lost_its_senses_is_refused_in_clear_words(url: str, tmp_path: Path, damage: str) -> None:
    upgrade(url)
    with sqlite3.connect(tmp_path / "state/portward.db") as connection:
        connection.execute(damage)
    connection.close()
    for use in (upgrade, check_revision):
        with pytest.raises(StoreError, match="restore a backup"):
            use(url)


def test_a_look_at_the_revision_makes_and_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a b?/portward.db".replace("?", "%")
    with pytest.raises(StoreError, match="not there yet"):
        check_revision(url)
    assert list(tmp_path.iterdir()) == []
    upgrade(url)
    file = next(tmp_path.iterdir()) / "portward.db"
    check_revision(url)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = file.read_bytes()
    check_revision(url)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_look_at_the_revision_sees_what_was_not_upgraded(url: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/portward.db").touch()
    with pytest.raises(TablesMissing, match="no tables yet"):
        check_revision(url)


def test_a_look_at_the_revision_tells_a_newer_release_from_an_older_one(url: str) -> None:
    upgrade(url, to="0001")
    with pytest.raises(TablesMissing, match="revision 0001"):
        check_revision(url)
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="a newer Portward made it") as refused:
        check_revision(url)
    assert not isinstance(refused.value, TablesMissing)
