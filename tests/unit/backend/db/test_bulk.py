"""Many rows at once: as many as a full batch has, in statements that the database takes."""

from collections.abc import Iterator

import pytest
from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, MetaData, String, Table, select

from surge_backend.db.bulk import (
    execute,
    execute_many,
    fetch_one,
    insert_missing,
    insert_rows,
    put_rows,
    select_by_keys,
)
from surge_backend.db.engine import Database, open_engine

things = Table(
    "things",
    MetaData(),
    Column("name", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("value", BigInteger),
)
COLUMNS = ("name", "number", "value")
COUNT = 20_000  # more than one statement takes


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    database = open_engine(empty_url)
    with database.write() as connection:
        things.create(connection)
    yield database
    database.close()


def rows(count: int, value: int = 7) -> list[tuple[str, int, int]]:
    return [(f"n{number % 3}", number, value) for number in range(count)]


def test_every_key_is_looked_up_and_no_other(database: Database):
    with database.write() as connection:
        insert_rows(connection, things, COLUMNS, rows(COUNT))
    with database.read() as connection:
        keys = [(name, number) for name, number, _ in rows(2 * COUNT)]
        found = select_by_keys(
            connection,
            "SELECT name, number FROM things WHERE value = {} AND (name, number) IN ({keys})",
            keys,
            (7,),
        )
        assert sorted(found) == sorted(keys[:COUNT])
        singles = select_by_keys(
            connection,
            "SELECT number FROM things WHERE number IN ({keys})",
            [(number,) for number in range(COUNT)],
        )
        assert len(singles) == COUNT
        assert select_by_keys(connection, "SELECT 1 FROM things WHERE number IN ({keys})", []) == []


def test_missing_rows_are_counted_and_present_ones_kept(database: Database):
    with database.write() as connection:
        assert insert_missing(connection, things, COLUMNS, rows(10)) == 10
        assert insert_missing(connection, things, COLUMNS, rows(15, value=9)) == 5
        assert insert_missing(connection, things, COLUMNS, []) == 0
        assert fetch_one(connection, "SELECT sum(value) FROM things") == (10 * 7 + 5 * 9,)


def test_put_replaces_and_execute_changes(database: Database):
    with database.write() as connection:
        put_rows(connection, things, COLUMNS, rows(10))
        put_rows(connection, things, COLUMNS, rows(12, value=1))
        assert fetch_one(connection, "SELECT count(*), sum(value) FROM things") == (12, 12)
        execute(connection, "UPDATE things SET value = {} WHERE number = {}", 5, 0)
        execute_many(connection, "UPDATE things SET value = {} WHERE number = {}", [(6, 1), (6, 2)])
        assert fetch_one(connection, "SELECT sum(value) FROM things WHERE number < {}", 4) == (18,)
        assert fetch_one(connection, "SELECT value FROM things WHERE number = {}", 99) is None


def test_every_value_comes_back_as_it_was(database: Database):
    """What is written in another notation on the way: quotes, backslashes, braces, NULL and its name."""
    table = Table(
        "odd",
        MetaData(),
        Column("n", BigInteger, primary_key=True),
        Column("t", String),
        Column("b", LargeBinary),
        Column("f", Boolean),
    )
    texts = ["", '"', "\\", "\\\\x41", "NULL", "null", "{a,b}", "a,b", " ä€😀\n\t", "'; --", None]
    blobs = [b"", b"\\x41", bytes(range(256)), b'"{},', None, *([b"\x00"] * 6)]
    flags = [True, False, None, *([True] * 8)]
    numbers = [2**63 - 1, -(2**63), *range(9)]
    odd = sorted(zip(numbers, texts, blobs, flags, strict=True))
    with database.write() as connection:
        table.create(connection)
        insert_rows(connection, table, ("n", "t", "b", "f"), odd[:1])
        insert_rows(connection, table, ("n", "t", "b", "f"), odd[1:])
    with database.read() as connection:
        assert [tuple(row) for row in connection.execute(select(table).order_by(table.c.n))] == odd
        for column, values in (("t", texts), ("b", blobs)):
            keys = [(value,) for value in values if value is not None]
            found = select_by_keys(connection, f"SELECT n FROM odd WHERE {column} IN ({{keys}})", keys)
            assert len(found) == len(keys)


def test_it_is_all_in_the_callers_transaction(database: Database):
    def breaks() -> None:
        with database.write() as connection:
            insert_rows(connection, things, COLUMNS, rows(3))
            execute(connection, "UPDATE things SET value = 0")
            raise RuntimeError("power loss")

    with pytest.raises(RuntimeError, match="power loss"):
        breaks()
    with database.read() as connection:
        assert fetch_one(connection, "SELECT count(*) FROM things") == (0,)
