"""Opening what every command needs: the database and the data directory's lock, with faults a person can put
right.

Place in the flow: `app`, `upkeep` and `rebuild` call it; the core's errors become UserErrors here.

Rule kept: one process at a time runs on a data directory (a lock that the system drops when the process ends,
however it ends), so that two backends never share a telemetry file or a port by mistake.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import ArgumentError, DBAPIError

from surge_backend.db.engine import Database, open_engine
from surge_backend.db.faults import first_line
from surge_backend.db.migrations import current_version, upgrade
from surge_backend.db.postgresql import check_server
from surge_backend.db.schema import devices
from surge_backend.errors import BackendError, DatabaseTooNew, StoreBusy, StoreFull, StoreLost
from surge_backend.keys import SealError, SecretVault, create_private_file, make_private_directory
from surge_backend.projection.source import CURSOR_NAME
from surge_backend.settings import EMBEDDED_KIND, TELEMETRY_ID_NAME, Settings
from surge_host.errors import UserError
from surge_host.private_files import take_lock

LOCK_NAME = "backend.lock"

# By PostgreSQL's SQLSTATE: insufficient privilege, duplicate table.
_REMEDIES = {
    "42501": "give its user the right to make tables: as its owner, GRANT CREATE ON SCHEMA public TO …",
    "42P07": "it holds another program's tables: give an empty database",
}
_INIT = "run `surge backend init` first, with the same --config"


@contextmanager
def locked_data_dir(settings: Settings) -> Iterator[Path]:
    """The data directory, ours alone while the block runs. Raises UserError if it isn't there or in use."""
    storage = settings.storage
    directory = storage.data_dir
    try:
        has_keys = storage.master_key_path.exists() and storage.log_key_path.exists()
        if storage.database_url is not None and has_keys:
            make_private_directory(directory)  # one more backend on a database that another has set up
        descriptor = take_lock(directory / LOCK_NAME)
    except BlockingIOError:
        raise UserError(
            "another `surge backend` works on this data directory",
            f"{directory}",
            "stop that one first, or set another [storage] data_dir",
        ) from None
    except FileNotFoundError:
        raise UserError("no data directory", f"{directory}", _INIT) from None
    except OSError as error:
        raise UserError(
            f"data directory can't be used: {error.strerror}", f"{directory}", "check its owner and its disk"
        ) from error
    try:
        yield directory
    finally:
        os.close(descriptor)


@contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """The database, brought to this version's tables. Raises UserError for none, or a newer one."""
    database = connect(settings)
    url = database.engine.url
    is_file = url.get_backend_name() == "sqlite"
    if is_file and url.database and not Path(url.database).exists():
        database.close()
        # opening it would make an empty one, which `init` then wouldn't overwrite
        raise UserError("no database", shown_url(database), _INIT)
    try:
        try:
            with database.read() as connection:
                if not is_file:
                    check_server(connection)
                version = current_version(connection)
            if version is None:
                raise UserError("the database has no tables", shown_url(database), _INIT)
            upgrade(database)
        except BackendError as error:
            raise as_user_error(error, shown_url(database)) from error
        except DBAPIError as error:
            raise unusable(error, shown_url(database)) from error
        yield database
    finally:
        database.close()


def connect(settings: Settings) -> Database:
    """An engine for the database's URL; nothing is opened yet. Raises UserError for a URL that can't work."""
    url = settings.storage.url
    file = settings.storage.data_dir
    if settings.storage.database_url is None and not file.is_dir():
        raise UserError("no data directory", str(file), _INIT)
    try:
        return open_engine(url, busy_timeout_ms=settings.storage.busy_timeout_ms)
    except (BackendError, ArgumentError, ModuleNotFoundError) as error:
        # the URL itself may hold a password: not shown
        raise UserError(
            f"the database's URL can't be used: {first_line(error)}",
            "[storage] database_url_file",
            "give a URL such as sqlite:////var/lib/surge/surge.db or postgresql://user:password@host/surge",
        ) from None


def check_master_key(settings: Settings, database: Database, vault: SecretVault) -> None:
    """Raises UserError if the master key is not the one that the devices' secrets were sealed under."""
    with database.read() as connection:
        row = connection.execute(select(devices.c.id, devices.c.secret_sealed).limit(1)).one_or_none()
    if row is None:
        return
    try:
        vault.open(row.id, row.secret_sealed)
    except SealError as error:
        raise UserError(
            f"the master key doesn't belong to this database: {error}",
            str(settings.storage.master_key_path),
            "put the right master key there; without it no device can be checked",
        ) from error


def cursor_name(settings: Settings) -> str:
    """Under which name the database keeps how far our telemetry store has come.

    A store that is a file of ours has a name of its own where several backends share the database: each fills
    its own.
    """
    storage = settings.storage
    if settings.telemetry.kind != EMBEDDED_KIND or storage.database_url is None:
        return CURSOR_NAME
    path = storage.data_dir / TELEMETRY_ID_NAME
    if not path.exists():
        create_private_file(path, secrets.token_hex(8).encode())
    return f"duckdb-{path.read_text().strip()[:16]}"


def shown_url(database: Database) -> str:
    """The database's URL without its password."""
    return database.engine.url.render_as_string(hide_password=True)


def as_user_error(error: BackendError, where: str) -> UserError:
    """One of the core's errors, for a person."""
    if isinstance(error, StoreLost):
        return UserError(
            f"the database server doesn't let us in: {first_line(error.__cause__ or error)}",
            where,
            "check that it runs, and the URL's host, port, user, password and database",
        )
    if isinstance(error, StoreBusy):
        return UserError(
            "the database is locked by another process", where, "stop that process, or wait for it"
        )
    if isinstance(error, StoreFull):
        return UserError(
            "the database can't be written", where, "free space on its disk, check its permissions"
        )
    if isinstance(error, DatabaseTooNew):
        return UserError(str(error), where, "upgrade Surge to the version that wrote it, or restore a backup")
    return UserError(str(error), where, "see above; restore a backup if the database is damaged")


def unusable(error: Exception, where: str) -> UserError:
    """What the driver says of a file that is no database, or a server that doesn't let us do our work."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    remedy = _REMEDIES.get(state, "check that it is the right one; restore a backup if it is damaged")
    return UserError(f"the database can't be used: {first_line(error)}", where, remedy)
