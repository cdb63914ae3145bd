"""Migrations make exactly the schema's tables, twice without harm, and never touch a newer database."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from databases import NewDatabase, run_migration
from sqlalchemy import inspect, text

from surge_backend.db import migrations
from surge_backend.db.engine import Database, open_engine
from surge_backend.db.schema import metadata
from surge_backend.errors import DatabaseNotReady, DatabaseTooNew


@pytest.fixture
def database(empty_url: str):
    database = open_engine(empty_url)
    yield database
    database.close()


def test_migrations_make_the_tables_of_the_schema(database: Database):
    migrations.upgrade(database)
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True, "target_metadata": metadata},
        )
        assert compare_metadata(context, metadata) == []


def test_migrated_tables_have_the_schemas_checks_and_storage(tmp_path: Path):
    """What Alembic's comparison leaves out: CHECKs, WITHOUT ROWID, AUTOINCREMENT."""
    database = open_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    migrations.upgrade(database)
    made = open_engine(f"sqlite:///{tmp_path / 'made.db'}")
    with made.write() as connection:
        metadata.create_all(connection)

    def statements(of: Database) -> dict[str, set[str]]:
        with of.read() as connection:
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
        return {
            name: {line.strip(" ,\t") for line in sql.splitlines()}
            for name, sql in rows
            if "alembic" not in name
        }

    assert statements(database) == statements(made)
    made.close()
    database.close()


def test_migrated_tables_have_the_schemas_checks_and_keys(new_database: NewDatabase):
    """The same by what the database says of itself, which is all that PostgreSQL keeps."""
    with new_database() as migrated_url, new_database() as made_url:
        migrated, made = open_engine(migrated_url), open_engine(made_url)
        migrations.upgrade(migrated)
        with made.write() as connection:
            metadata.drop_all(connection)
            metadata.create_all(connection)
        assert constraints(migrated) == constraints(made)
        made.close()
        migrated.close()


def constraints(database: Database) -> dict[str, set[str]]:
    with database.read() as connection:
        seen = inspect(connection)
        return {
            table: {
                repr(found)
                for find in (
                    seen.get_check_constraints,
                    seen.get_foreign_keys,
                    seen.get_unique_constraints,
                    seen.get_indexes,
                )
                for found in find(table)
            }
            | {repr(seen.get_pk_constraint(table))}
            for table in metadata.tables
        }


def test_upgrade_twice_changes_nothing(database: Database):
    first = migrations.upgrade(database)
    assert migrations.upgrade(database) == first
    migrations.check_current(database)


def test_an_empty_database_is_not_ready(database: Database):
    with pytest.raises(DatabaseNotReady, match="surge backend init"):
        migrations.check_current(database)


def test_a_newer_database_is_refused_and_left_alone(database: Database):
    migrations.upgrade(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refuse in (migrations.upgrade, migrations.check_current):
        with pytest.raises(DatabaseTooNew, match="9999"):
            refuse(database)
    with database.read() as connection:
        assert migrations.current_version(connection) == "9999"


def test_a_migration_that_fails_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch):
    scripts = migrations._scripts()
    module = scripts.get_revision("0001").module
    whole = module.upgrade

    def breaks_at_the_end() -> None:
        whole()
        raise RuntimeError("power loss")

    monkeypatch.setattr(migrations, "_scripts", lambda: scripts)
    monkeypatch.setattr(module, "upgrade", breaks_at_the_end)
    with pytest.raises(RuntimeError, match="power loss"):
        migrations.upgrade(database)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == []


def test_reports_of_a_development_version_are_not_dropped(database: Database):
    for revision in ("0001", "0002", "0003"):
        run_migration(database, revision)
    with database.write() as connection:
        MigrationContext.configure(connection).stamp(migrations._scripts(), "0003")
        row = "'daaaaaaaaaaaaaaaa', 1, 0, 0, 0, 'digest', 1, 100"
        connection.execute(text(f"INSERT INTO reports VALUES ({row})"))
    with pytest.raises(DatabaseNotReady, match="in another folder"):
        migrations.upgrade(database)
    with database.read() as connection:
        assert migrations.current_version(connection) == "0003"
        assert connection.execute(text("SELECT count(*) FROM reports")).scalar() == 1
