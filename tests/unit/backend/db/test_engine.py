"""The database: durable settings, one writer, locked and full told apart, usable from threads."""

import sqlite3
import threading
import traceback
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from surge_backend.db.engine import Database, open_engine
from surge_backend.errors import BackendError, StoreBusy, StoreFull


@pytest.fixture
def database(tmp_path: Path):
    database = open_engine(f"sqlite:///{tmp_path / 'surge.db'}", busy_timeout_ms=10)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)"))
    yield database
    database.close()


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT n FROM t ORDER BY n")).scalars())


def test_settings_are_durable(database: Database):
    with database.read() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10}


def test_a_block_that_raises_stores_nothing(database: Database):
    def breaks() -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO t (n) VALUES (1)"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        breaks()
    assert numbers(database) == []


def test_read_keeps_one_snapshot(database: Database):
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
        with database.write() as writer:
            writer.execute(text("INSERT INTO t (n) VALUES (1)"))
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
    assert numbers(database) == [1]


def test_a_second_writer_gets_store_busy_and_later_succeeds(database: Database, tmp_path: Path):
    other = sqlite3.connect(tmp_path / "surge.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="try again"), database.write():
        pytest.fail("two writers at once")
    other.execute("ROLLBACK")
    other.close()
    with database.write() as connection:
        connection.execute(text("INSERT INTO t (n) VALUES (7)"))
    assert numbers(database) == [7]


def test_a_full_disk_is_store_full_stores_nothing_and_heals(database: Database):
    def fill(pages: int) -> None:
        with database.write() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.execute(text("INSERT INTO t (n) VALUES (1)"))
            connection.execute(text("INSERT INTO t (n, b) VALUES (2, zeroblob(1000000))"))

    with pytest.raises(StoreFull, match="make room"):
        fill(4)
    assert numbers(database) == []
    fill(1_000_000)
    assert numbers(database) == [1, 2]


@pytest.mark.threat(25)
def test_an_error_does_not_tell_the_values_of_its_statement(database: Database):
    def insert(*values: dict[str, object]) -> None:
        with database.write() as connection:
            connection.execute(text("INSERT INTO t (n, b) VALUES (:n, :b)"), list(values))

    row = {"n": 1, "b": b"sealed-secret"}
    for values in ((row, row), ({"n": "token-hash", "b": b"sealed-secret"},)):
        with pytest.raises(DBAPIError) as caught:
            insert(*values)
        told = "".join(traceback.format_exception(caught.value))
        assert "INSERT INTO t" in told
        assert "sealed-secret" not in told
        assert "token-hash" not in told


def test_writers_in_threads_take_turns(tmp_path: Path):
    database = open_engine(f"sqlite:///{tmp_path / 'surge.db'}", busy_timeout_ms=60_000)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
        connection.execute(text("INSERT INTO t VALUES (0)"))

    def count_up() -> None:
        for _ in range(25):
            with database.write() as connection:
                n = connection.execute(text("SELECT n FROM t")).scalar_one()
                connection.execute(text("UPDATE t SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == [100]
    database.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/surge"])
def test_urls_that_can_not_work_are_refused(url: str):
    with pytest.raises(BackendError, match="sqlite:///"):
        open_engine(url)
