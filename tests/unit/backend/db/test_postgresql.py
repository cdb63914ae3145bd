"""PostgreSQL where it differs: who sees what under which lock, whole numbers, a server that goes and comes
back, and what a person reads when it can't be used."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from postgresql_server import PASSWORD, PostgresServer, free_port, running_server
from sqlalchemy import Connection, text

from surge_backend.db.engine import Database, open_engine
from surge_backend.errors import BackendError, StoreBusy, StoreLost
from surge_backend.opening import opened_database
from surge_backend.settings import read_settings
from surge_backend.upkeep import initialise
from surge_host.errors import UserError


@pytest.fixture
def url(postgresql: PostgresServer) -> Iterator[str]:
    with postgresql.database() as name:
        yield postgresql.url(name)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = open_engine(url, busy_timeout_ms=50)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (n BIGINT PRIMARY KEY)"))
    yield database
    database.close()


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT n FROM t ORDER BY n")).scalars())


def insert(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})


def test_readers_are_read_only_with_a_snapshot_and_writers_see_what_is_committed(database: Database):
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
        shown = connection.execute(text("SHOW transaction_isolation")).scalar()
        assert (shown, connection.execute(text("SHOW transaction_read_only")).scalar()) == (
            "repeatable read",
            "on",
        )
        insert(database, 1)
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
    with database.write() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar() == "read committed"
    assert numbers(database) == [1]


def test_a_writer_that_waited_sees_what_the_one_before_it_left(url: str, database: Database):
    """Even where the server's default is a snapshot from before the wait."""
    with database.write() as connection:
        connection.execute(
            text(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation ="
                " ''serializable''', current_database()); END $$"
            )
        )
    processes = [open_engine(url, busy_timeout_ms=60_000) for _ in range(4)]

    def count_up(own: Database) -> None:
        for _ in range(25):
            with own.write() as connection:
                newest = connection.execute(text("SELECT coalesce(max(n), 0) FROM t")).scalar_one()
                connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": newest + 1})

    threads = [threading.Thread(target=count_up, args=(own,)) for own in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == list(range(1, 101))
    for own in processes:
        own.close()


def insert_while(database: Database, number: int, fault: Callable[[Connection], object]) -> None:
    """Something goes wrong in the middle of a writer's transaction."""
    with database.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})
        fault(connection)
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number + 100})


def terminate(connection: Connection) -> None:
    """End the connection from the server's side, as an administrator does."""
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with connection.engine.connect() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


def test_the_writers_lock_is_waited_for_so_long_and_is_gone_with_its_holder(url: str, database: Database):
    other = open_engine(url)
    with other.write(), pytest.raises(StoreBusy, match="try again"):
        insert(database, 1)
    insert(database, 1)
    with pytest.raises(StoreLost):
        insert_while(other, 2, terminate)
    insert(database, 3)
    assert numbers(database) == [1, 3]
    other.close()


def test_commits_are_on_disk_whatever_the_servers_default(database: Database):
    with database.write() as connection:
        connection.execute(
            text(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off',"
                " current_database()); END $$"
            )
        )
    database.engine.dispose()
    with database.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "off"
    with database.write() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_sums_stay_whole_numbers(database: Database):
    for number in (2**62, 2**62 - 1):
        insert(database, number)
    with database.read() as connection:
        total = connection.execute(text("SELECT sum(n) FROM t")).scalar()
    assert (type(total), total) == (int, 2**63 - 1)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_name_of_postgresql_is_taken(url: str, scheme: str):
    database = open_engine(url.replace("postgresql", scheme, 1))
    with database.read() as connection:
        assert connection.dialect.driver == "psycopg"
    database.close()


@pytest.mark.threat(25)
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("postgresql+psycopg2://u:s3cret@host/db", "psycopg2"),
        ("postgresql://u:s3cr@et@host/db", "%40"),
        ("postgresql://u:s3cret@host:s3cret/db", "no port number"),
        ("mysql://u:s3cret@host/db", "not supported"),
    ],
)
def test_a_url_that_can_not_work_is_told_without_its_password(bad: str, words: str):
    with pytest.raises(BackendError, match=words) as caught:
        open_engine(bad)
    assert "s3cr" not in str(caught.value)
    assert "@et" not in str(caught.value)


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BackendError, match=r"pip install 'surge-depin\[postgresql\]'"):
        open_engine("postgresql://host/db")


# --- what a person reads ----------------------------------------------------------------------------------


def set_up(folder: Path, url: str) -> Path:
    """A settings file for the database at `url`."""
    secret = folder / "database.url"
    secret.write_text(url)
    secret.chmod(0o600)
    config = folder / "backend.toml"
    config.write_text(f"storage.database_url_file = '{secret}'\n")
    return config


def refusal(folder: Path, url: str) -> UserError:
    """What `surge backend init` says; it leaves nothing behind."""
    config = set_up(folder, url)
    with pytest.raises(UserError) as caught:
        initialise(config)
    assert not (folder / "surge-data").exists()
    assert PASSWORD not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    return caught.value


def test_init_sets_up_an_empty_database_once(tmp_path: Path, url: str):
    config = set_up(tmp_path, url)
    initialise(config)
    (tmp_path / "other").mkdir()
    assert "set up already" in refusal(tmp_path / "other", url).what
    with opened_database(read_settings(config, {})) as database, database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM tokens")).scalar() == 1


def test_init_at_a_server_that_is_not_there(tmp_path: Path):
    error = refusal(tmp_path, f"postgresql://surge:s3cret@127.0.0.1:{free_port()}/surge")
    assert "refused" in error.what
    assert "***" in error.where
    assert "check that it runs" in error.remedy


@pytest.mark.threat(25)
def test_init_with_a_wrong_password(tmp_path: Path, postgresql: PostgresServer):
    error = refusal(tmp_path, postgresql.tcp_url(password="s3cret"))
    assert "password authentication failed" in error.what
    assert "password" in error.remedy


def test_init_without_the_database(tmp_path: Path, postgresql: PostgresServer):
    assert "does not exist" in refusal(tmp_path, postgresql.tcp_url("nothing")).what


def test_init_in_another_encoding(tmp_path: Path, postgresql: PostgresServer):
    postgresql.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    error = refusal(tmp_path, postgresql.tcp_url("latin"))
    assert "LATIN1" in error.what
    assert "ENCODING 'UTF8'" in error.what


def test_init_without_the_right_to_make_tables(tmp_path: Path, postgresql: PostgresServer):
    postgresql.execute("CREATE ROLE guest LOGIN")
    with postgresql.database() as name:
        error = refusal(tmp_path, postgresql.url(name, user="guest"))
    assert "permission denied" in error.what
    assert "GRANT CREATE" in error.remedy


def test_init_among_another_programs_tables(tmp_path: Path, postgresql: PostgresServer):
    with postgresql.database() as name:
        postgresql.execute("CREATE TABLE devices (id int)", database=name)
        error = refusal(tmp_path, postgresql.url(name))
        assert "already exists" in error.what
        assert "empty database" in error.remedy
        assert postgresql.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=name
        ) == [(1,)]


# --- a server of its own, to be killed --------------------------------------------------------------------


def test_a_server_that_is_killed_is_lost_and_found_again_without_a_restart_of_ours():
    with running_server(durable=True, settings={"max_connections": "8"}) as server:
        database = open_engine(server.url(), busy_timeout_ms=1_000)
        with database.write() as connection:
            connection.execute(text("CREATE TABLE t (n BIGINT PRIMARY KEY)"))
        insert(database, 1)
        with pytest.raises(StoreLost):
            insert_while(database, 2, lambda _: server.kill())
        for attempt in (insert, lambda lost, _: numbers(lost)):
            with pytest.raises(StoreLost, match="doesn't answer"):
                attempt(database, 3)
        server.start()
        insert(database, 4)
        assert numbers(database) == [1, 4]
        with database.read() as idle:  # its connection dies while nothing is asked
            idle.execute(text("SELECT 1"))
        server.end()
        server.start()
        insert(database, 5)
        assert numbers(database) == [1, 4, 5]
        no_connection_left(server, database)
        insert(database, 6)
        database.close()


def no_connection_left(server: PostgresServer, database: Database) -> None:
    """Every connection that the server has for ordinary users is taken: busy, until one is given back."""
    server.execute("CREATE ROLE plain LOGIN", "GRANT SELECT ON t TO plain")
    others = [open_engine(server.url(user="plain")) for _ in range(8)]

    def take_all() -> None:
        with ExitStack() as held:
            for other in others:
                held.enter_context(other.read()).execute(text("SELECT 1"))

    with pytest.raises(StoreBusy, match=r"connection slots|too many clients"):
        take_all()
    for other in others[:-1]:
        other.close()
    assert numbers(others[-1]) == numbers(database)
    others[-1].close()
