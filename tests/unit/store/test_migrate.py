"""From nothing, or from an older database, to the tables of this release."""

import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from portward.store import Store, StoreError, upgrade
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


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "postgresql://user:secret@host/portward"])
def test_a_url_of_no_sqlite_file_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite:////PATH") as raised:
        upgrade(url)
    assert "secret" not in str(raised.value)
