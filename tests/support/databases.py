"""Databases for tests, of both kinds: SQLite's is a file, PostgreSQL's is a copy of a template."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
from alembic.migration import MigrationContext
from alembic.operations import Operations
from postgresql_server import PostgresServer
from sqlalchemy import Connection, event

from surge_backend.db.engine import Database, open_engine
from surge_backend.db.migrations import _scripts, upgrade

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
KINDS = (SQLITE, POSTGRESQL)
TEMPLATE = "surge_tables"
FILLED = ("batch_digests", "batches", "owners", "projector_state")  # tables that a full disk is noticed at
# SQLite's function of that name, so that a test's statement runs on both.
_ZEROBLOB = (
    "CREATE FUNCTION zeroblob(length int) RETURNS bytea LANGUAGE sql AS"
    " $$ SELECT decode(repeat('00', length), 'hex') $$"
)

NewDatabase = Callable[[], AbstractContextManager[str]]


def fill_template(url: str) -> None:
    """This version's tables."""
    database = open_engine(url)
    try:
        upgrade(database)
        with database.write() as connection:
            connection.exec_driver_sql(_ZEROBLOB)
    finally:
        database.close()


@contextmanager
def sqlite_url() -> Iterator[str]:
    """A file that isn't there yet."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder, 'surge.db')}"


def new_postgresql(server: PostgresServer, template: str) -> NewDatabase:
    """Makes databases on `server`."""

    @contextmanager
    def made() -> Iterator[str]:
        with server.database(template) as name:
            yield server.url(name)

    return made


def run_migration(database: Database, revision: str) -> None:
    """Run one migration by itself, whatever version the database is of."""
    module = _scripts().get_revision(revision).module
    with (
        database.write() as connection,
        Operations.context(MigrationContext.configure(connection)),
    ):
        module.upgrade()


def vandalise(database: Database, *damage: str) -> None:
    """Change rows as nothing of ours would: past foreign keys and checks."""
    url = database.engine.url
    if url.get_backend_name() == SQLITE:
        file = sqlite3.connect(str(url.database))  # foreign keys are off by default
        file.execute("PRAGMA ignore_check_constraints = ON")
        for statement in damage:
            file.execute(statement)
        file.commit()
        file.close()
        return
    with psycopg.connect(
        dbname=url.database, user=url.username, host=str(url.query["host"]), port=str(url.query["port"])
    ) as connection:
        checks = connection.execute(
            "SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'c' AND conname ~ '^ck_'"
        ).fetchall()
        for table, check in checks:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check}")
        connection.execute("SET LOCAL session_replication_role = replica")  # no foreign keys
        for statement in damage:
            connection.execute(statement)


@contextmanager
def full_disk(database: Database) -> Iterator[None]:
    """Every write fails as it does on a full disk.

    To SQLite a bound on the file's pages is one; PostgreSQL is made to answer what it answers when a file
    can't grow.
    """
    engine = database.engine
    if engine.dialect.name == SQLITE:
        with database.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

        def fill(connection: Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            if connection.get_execution_options().get("surge_writer"):
                connection.exec_driver_sql("CREATE TABLE filler AS SELECT randomblob(100000) AS bytes")

        event.listen(engine, "begin", fill)
        try:
            yield
        finally:
            event.remove(engine, "begin", fill)
            engine.dispose()  # with the bound, which is the connection's
        return
    with database.write() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
            " 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        for table in FILLED:
            connection.exec_driver_sql(
                f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION fail()"
            )
    yield
    with database.write() as connection:
        connection.exec_driver_sql("DROP FUNCTION fail CASCADE")
