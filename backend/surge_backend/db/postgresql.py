"""PostgreSQL, where it differs from SQLite: its URL, its connections, and how a transaction begins.

Place in the flow: ``engine`` calls it for a URL that names PostgreSQL. The driver is psycopg 3.

Does not: know of tables, or import the driver before it is needed: SQLite works without it.

Rules it keeps:

* a reader's transaction is REPEATABLE READ and READ ONLY: one snapshot, from its first statement on;
* the writer's is READ COMMITTED, and its first statement takes the advisory lock. A statement sees what was
  committed when it began, so everything after the lock sees what the writer before left. REPEATABLE READ
  would keep the snapshot from before the wait;
* a writer's commit is on the server's disk when it returns, whatever the server's default is;
* whole numbers stay whole: PostgreSQL sums bigint as numeric, and no column here is a fraction;
* a connection is tried before it is used, so a server that was restarted costs no failed request.
"""

from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, event

from surge_backend.db.faults import first_line
from surge_backend.errors import BackendError

CONNECT_TIMEOUT_S: Final = 5  # a server that doesn't answer by then: StoreLost
# A server's machine that went away without a word is noticed after about this long.
_KEEPALIVE: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
UNANSWERED_MAX_MS: Final = 20_000
ENCODING: Final = "UTF8"
APPLICATION_NAME: Final = "surge backend"

# Numbers of advisory locks; the same for every backend on a database.
WRITER_LOCK: Final = 0x5355524745  # "SURGE"
PROJECTOR_LOCK: Final = 0x5355524746

_DRIVER: Final = "psycopg"


def is_meant(url: URL) -> bool:
    """Whether the URL names PostgreSQL, by any of its names."""
    return url.drivername.partition("+")[0] in ("postgresql", "postgres")


def checked_url(url: URL) -> URL:
    """The URL with the driver that we use. Raises BackendError for one that can't work."""
    driver = url.drivername.partition("+")[2]
    if driver not in ("", _DRIVER):
        raise BackendError(f"the driver {driver!r} is not supported; write postgresql://…")
    if "@" in (url.host or ""):
        # else a part of the password would be looked up, and shown, as a host
        raise BackendError("user or password has an `@`: write it as %40, and `/` as %2F, `:` as %3A")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise BackendError(
            f"PostgreSQL's driver is missing ({first_line(error)}); pip install 'surge-depin[postgresql]'"
        ) from None
    return url.set(drivername=f"postgresql+{_DRIVER}")


def engine_options() -> dict[str, Any]:
    """What `create_engine` is given beside the URL; what the URL says in its query wins."""
    return {"pool_pre_ping": True, "pool_use_lifo": True}


def set_up(engine: Engine, busy_timeout_ms: int, writer_option: str) -> None:
    """Make every transaction of ``engine`` begin as the module says."""
    from psycopg import IsolationLevel
    from psycopg.adapt import Loader

    class WholeNumber(Loader):
        def load(self, data: Any) -> int:
            return int(bytes(data))

    # One string, so one way to the server and back.
    begin_write = (
        f"SET LOCAL lock_timeout = {int(busy_timeout_ms)};"
        " SELECT set_config('synchronous_commit', 'on', true)"
        " WHERE current_setting('synchronous_commit') = 'off';"
        f" SELECT pg_advisory_xact_lock({WRITER_LOCK})"
    )

    @event.listens_for(engine, "do_connect")
    def on_dialling(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        defaults = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": UNANSWERED_MAX_MS,
            "application_name": APPLICATION_NAME,
            **_KEEPALIVE,
        }
        for name, value in defaults.items():
            parameters.setdefault(name, value)
        parameters["client_encoding"] = ENCODING

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.adapters.register_loader("numeric", WholeNumber)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        driver = connection.connection.dbapi_connection
        if driver is None:
            raise RuntimeError("a transaction begins on a connection that is closed")
        writes = bool(connection.get_execution_options().get(writer_option))
        # part of the BEGIN that the driver sends before the first statement
        driver.isolation_level = IsolationLevel.READ_COMMITTED if writes else IsolationLevel.REPEATABLE_READ
        driver.read_only = not writes
        if writes:
            cursor = driver.cursor()
            try:
                cursor.execute(begin_write)
            finally:
                cursor.close()


def check_server(connection: Connection) -> None:
    """Raises BackendError if the database can't hold what we store."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != ENCODING:
        raise BackendError(
            f"the database's encoding is {encoding}, and names in it would be damaged;"
            f" make one with CREATE DATABASE … ENCODING '{ENCODING}' TEMPLATE template0"
        )
