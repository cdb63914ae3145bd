"""Bringing a database to this version's tables: Alembic, packaged with the code and run by it.

Place in the flow: `upgrade` runs once at start, before anything else touches the database.

Does not: downgrade. A database that a newer version wrote is refused, because this version can't know what
its rows mean.

Rules it keeps: all steps of one `upgrade` are one transaction of the one writer, so two processes that start
at once do not collide, and a failure leaves the old version. Foreign keys are checked before the commit.
"""

from pathlib import Path
from typing import Any, Final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from surge_backend.db.durable import make_durable
from surge_backend.db.engine import Database
from surge_backend.db.schema import metadata
from surge_backend.errors import DatabaseNotReady, DatabaseTooNew, InvariantViolated

_HERE: Final = Path(__file__).parent


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def _head(scripts: ScriptDirectory) -> str:
    head = scripts.get_current_head()
    if head is None:
        raise InvariantViolated("no migrations in the package; install it anew")
    return head


def current_version(connection: Connection) -> str | None:
    """The database's version, None where it has no tables yet."""
    return MigrationContext.configure(connection).get_current_revision()


def _check_known(scripts: ScriptDirectory, version: str | None) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if version is not None and version not in known:
        raise DatabaseTooNew(
            f"the database is of version {version}, this backend knows up to {_head(scripts)};"
            " run the newer backend, or restore a backup from before its first start"
        )


def check_current(database: Database) -> None:
    """Raises DatabaseNotReady or DatabaseTooNew unless the database is of exactly this version."""
    scripts = _scripts()
    with database.read() as connection:
        version = current_version(connection)
    _check_known(scripts, version)
    if version != _head(scripts):
        raise DatabaseNotReady(
            f"the database is of version {version}, this backend needs {_head(scripts)};"
            " run `surge backend init`"
        )


def upgrade(database: Database) -> str:
    """Bring the database to this version and give its name; what it holds is on the disk then. Raises
    DatabaseTooNew, and leaves that one as it is.
    """
    make_durable(database)
    scripts = _scripts()
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))

    def steps(revision: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs("head", revision)

    with database.write() as connection:
        _check_known(scripts, current_version(connection))
        environment = EnvironmentContext(config, scripts, fn=steps)
        environment.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=True,
            transaction_per_migration=False,
        )
        environment.run_migrations()
        if (
            connection.dialect.name == "sqlite"
            and connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        ):
            raise InvariantViolated("a migration would break foreign keys; the database stays as it was")
    return _head(scripts)
