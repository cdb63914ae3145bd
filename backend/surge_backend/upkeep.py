"""`surge backend init`, `check` and `token`: what is done to a backend that isn't running, or needn't be.

Place in the flow: called by `cli`. `init` makes what `app` later opens.

Rules kept: `init` overwrites nothing and, if it fails half-way, takes away what it made itself; tokens go
into files of mode 0600 and are never printed.
"""

import time
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from surge_backend.db.engine import Database
from surge_backend.db.migrations import current_version, upgrade
from surge_backend.db.postgresql import check_server
from surge_backend.errors import BackendError
from surge_backend.keys import (
    LogKey,
    create_log_key,
    create_master_key,
    create_private_file,
    make_private_directory,
    read_log_key,
    read_master_key,
)
from surge_backend.ledger.posting import open_issuance
from surge_backend.ledger.tariffs import ensure_first_tariff
from surge_backend.log import MerkleLog, has_head
from surge_backend.opening import (
    as_user_error,
    check_master_key,
    connect,
    opened_database,
    shown_url,
    unusable,
)
from surge_backend.registry.errors import RegistryError
from surge_backend.registry.gateway_rows import get_gateway
from surge_backend.registry.owners import require_owner
from surge_backend.registry.token_rows import issue_token
from surge_backend.registry.tokens import TOKEN_LIFE_S_MAX, Role
from surge_backend.settings import DATABASE_NAME, Settings, read_settings
from surge_host.errors import UserError

_DAY_MS = 86_400_000

_FIRST_SETTINGS = """\
# Settings of `surge backend`: delete or change what you like. What isn't here has its default; the example
# file backend.example.toml in Surge's sources lists everything.

[server]
host = "127.0.0.1"
port = 8080

[storage]
data_dir = "surge-data"
"""


def wall_clock_ms() -> int:
    """The wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def initialise(config: Path) -> int:
    """Make everything a first run needs. Raises UserError, and leaves nothing behind that it made."""
    made: list[Path] = []
    try:
        if not config.exists():
            create_private_file(config, _FIRST_SETTINGS.encode())
            made.append(config)
        settings = read_settings(config)
        storage = settings.storage
        own_database = storage.data_dir / DATABASE_NAME if storage.database_url is None else None
        targets = [storage.master_key_path, storage.log_key_path, storage.admin_token_path]
        for target in [*targets, own_database]:
            if target is not None and target.exists():
                raise UserError(
                    "this backend is set up already, and nothing is overwritten",
                    str(target),
                    "run `surge backend`; to start over, move the data directory away and keep it safe",
                )
        if not storage.data_dir.exists():
            make_private_directory(storage.data_dir)
            made.append(storage.data_dir)
        else:
            make_private_directory(storage.data_dir)  # checks who may enter it
        create_master_key(storage.master_key_path)
        made.append(storage.master_key_path)
        log_key = create_log_key(storage.log_key_path)
        made.append(storage.log_key_path)
        if own_database is not None:
            made += [own_database, Path(f"{own_database}-wal"), Path(f"{own_database}-shm")]
        _make_database(settings, log_key, made)
    except BaseException:
        _take_away(made)
        raise
    for line in _what_was_made(config, settings):
        print(line)  # noqa: T201
    return 0


def _make_database(settings: Settings, log_key: LogKey, made: list[Path]) -> None:
    """Tables, first tariff, issuance account, the empty log's head, and an admin token in its file."""
    database = connect(settings)
    where = shown_url(database)
    try:
        if settings.storage.database_url is not None:
            _refuse_a_used_one(database, where)
        upgrade(database)
        with database.write() as connection:
            time_ms = wall_clock_ms()
            open_issuance(connection)
            ensure_first_tariff(connection, time_ms)
            MerkleLog(log_key.seed).open(connection, time_ms)
            token = issue_token(connection, Role.ADMIN, "", "first", time_ms).token
            # before the commit: if the file can't be made, nothing is set up
            create_private_file(settings.storage.admin_token_path, token.encode() + b"\n")
            made.append(settings.storage.admin_token_path)
    except BackendError as error:
        raise as_user_error(error, where) from error
    except DBAPIError as error:
        raise unusable(error, where) from error
    finally:
        database.close()


def _refuse_a_used_one(database: Database, where: str) -> None:
    with database.read() as connection:
        if database.engine.dialect.name != "sqlite":
            check_server(connection)
        used = current_version(connection) is not None and has_head(connection)
    if used:
        raise UserError(
            "this database is set up already, and nothing is overwritten",
            where,
            "run `surge backend` with the keys that belong to it; to start over, give an empty database",
        )


def _take_away(made: list[Path]) -> None:
    for path in reversed(made):
        try:
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        except OSError:
            pass  # something else is in there: it stays


def _what_was_made(config: Path, settings: Settings) -> list[str]:
    storage = settings.storage
    return [
        "The backend is set up.",
        f"  settings     {config}",
        f"  data         {storage.data_dir}",
        f"  master key   {storage.master_key_path}   keep a copy: without it no device can be checked",
        f"  log key      {storage.log_key_path}   keep a copy: receipts are verified with it",
        f"  admin token  {storage.admin_token_path}",
        f"Next: surge backend owner --config {config} --name NAME --out owner.token",
        f"      surge backend --config {config}",
    ]


def make_token(
    settings: Settings, *, role: Role, subject_id: str, label: str, expires_in_days: int | None, out: Path
) -> int:
    """Make a token and write it to the new file `out`; works while the backend runs. Raises UserError."""
    if expires_in_days is not None and not 1 <= expires_in_days <= TOKEN_LIFE_S_MAX // 86_400:
        raise UserError(
            f"{expires_in_days} is no number of days",
            "--expires-in-days",
            f"give 1 to {TOKEN_LIFE_S_MAX // 86_400}",
        )
    needs_subject = role in (Role.OWNER, Role.GATEWAY)
    if needs_subject != bool(subject_id):
        what = "needs" if needs_subject else "takes no"
        raise UserError(f"a token for the role {role.value} {what} subject", "--subject", "see --help")
    with opened_database(settings) as database:
        try:
            with database.write() as connection:
                if role is Role.OWNER:
                    require_owner(connection, subject_id)
                elif role is Role.GATEWAY:
                    get_gateway(connection, subject_id)
                time_ms = wall_clock_ms()
                expires_ms = None if expires_in_days is None else time_ms + expires_in_days * _DAY_MS
                issued = issue_token(connection, role, subject_id, label, time_ms, expires_ms)
                # before the commit: if the file can't be made, there is no token either
                create_private_file(out, issued.token.encode() + b"\n")
        except RegistryError as error:
            raise UserError(str(error), "--subject", "give an id that exists") from error
        except BackendError as error:
            raise as_user_error(error, shown_url(database)) from error
    print(f"Token {issued.token_id} ({role.value}) is in {out}")  # noqa: T201
    return 0


def check(settings: Settings, *, quick: bool) -> int:
    """Check every invariant that the database can show; prints each. 1 if one is broken."""
    from surge_backend.invariants import check_invariants

    vault = read_master_key(settings.storage.master_key_path)
    log_key = read_log_key(settings.storage.log_key_path)
    with opened_database(settings) as database:
        check_master_key(settings, database, vault)
        try:
            results = check_invariants(database, MerkleLog(log_key.seed).verify, quick=quick)
        except BackendError as error:
            raise as_user_error(error, shown_url(database)) from error
    for name, violations in results.items():
        print(f"{'broken' if violations else 'holds'}  {name}")  # noqa: T201
        for violation in violations:
            print(f"        {violation}")  # noqa: T201
    return 1 if any(results.values()) else 0
