"""The log grows, proves that it did, and stops signing when what is stored is not what was signed."""

from collections.abc import Iterator

import pytest
from databases import POSTGRESQL
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, text

from surge_backend.db import migrations
from surge_backend.db.engine import Database, open_engine
from surge_backend.db.schema import batches, gateways, owners
from surge_backend.errors import LogForked, NotInLog
from surge_backend.log import Appended, MerkleLog
from surge_backend.log.check import check_log
from surge_backend.log.frontier import Frontier
from surge_wire import ed25519
from surge_wire.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    node_hash,
    root_from_inclusion,
)
from surge_wire.receipt import open_tree_head, verify_consistency_receipt, verify_inclusion_receipt

SEED = bytes(range(32))
VERIFY = ed25519.verifier(ed25519.public_key(SEED))
GATEWAY = "gaaaaaaaaaaaaaaaa"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_engine(database_url)
    migrations.upgrade(database)
    with database.write() as connection:
        connection.execute(insert(owners).values(id="oaaaaaaaaaaaaaaaa", name="", created_ms=0))
        connection.execute(
            insert(gateways).values(
                id=GATEWAY,
                owner_id="oaaaaaaaaaaaaaaaa",
                name="",
                public_key=b"",
                status="active",
                chain_hash=bytes(32),
                created_ms=0,
            )
        )
    yield database
    database.close()


def entry(index: int) -> bytes:
    return b"settlement %d" % index


def append(database: Database, log: MerkleLog, content: bytes) -> Appended:
    """One entry, stored with its batch in one transaction as ingest does."""
    with database.write() as connection:
        appended = log.append(connection, content, 1_000)
        connection.execute(
            insert(batches).values(
                log_index=appended.index,
                hash=leaf_hash(content),
                gateway_id=GATEWAY,
                seq=appended.index,
                received_ms=0,
                envelope=b"",
                settlement=content,
                answer=b"",
                report_count=0,
                accepted_count=0,
                sample_count=0,
            )
        )
    log.confirm(appended)
    return appended


def opened(database: Database, seed: bytes = SEED) -> MerkleLog:
    log = MerkleLog(seed)
    with database.write() as connection:
        log.open(connection, 500)
    return log


def filled(database: Database, count: int) -> MerkleLog:
    log = opened(database)
    for index in range(count):
        append(database, log, entry(index))
    return log


def root_of(leaves: list[bytes]) -> bytes:
    """MTH as RFC 9162 section 2.1.1 writes it, over everything at once."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(root_of(leaves[:k]), root_of(leaves[k:]))


@given(st.integers(0, 130))
def test_a_frontier_has_the_root_of_the_whole_tree(size: int):
    frontier = Frontier(0, EMPTY_ROOT, {})
    nodes = {}
    for index in range(size):
        frontier, made, path = frontier.append(leaf_hash(entry(index)))
        nodes |= made
        assert root_from_inclusion(leaf_hash(entry(index)), index, index + 1, path) == frontier.root
    assert frontier.root == root_of([entry(index) for index in range(size)])
    assert Frontier.of(size, lambda level, index: nodes[level, index]) == frontier


def test_every_receipt_and_proof_of_every_size_verifies(database: Database):
    log = opened(database)
    roots = [EMPTY_ROOT]
    for index in range(20):
        appended = append(database, log, entry(index))
        assert verify_inclusion_receipt(appended.receipt, entry(index), VERIFY) == (
            index,
            index + 1,
            appended.root,
        )
        roots.append(appended.root)
    with database.read() as connection:
        for size in range(21):
            for index in range(size):
                receipt = log.inclusion_receipt(connection, index, size)
                assert verify_inclusion_receipt(receipt, entry(index), VERIFY) == (index, size, roots[size])
            for first in range(size + 1):
                receipt = log.consistency_receipt(connection, first, size)
                assert verify_consistency_receipt(receipt, roots[first], roots[size], VERIFY) == (first, size)
        head, envelope = log.head(connection)
        assert (head.tree_size, head.root) == (20, root_of([entry(index) for index in range(20)]))
        assert open_tree_head(envelope, VERIFY).root == head.root
        assert log.inclusion_receipt(connection, 3) == log.inclusion_receipt(connection, 3, 20)
        assert check_log(connection, VERIFY) == []
        log.check(connection)


def test_an_empty_log_has_a_signed_head(database: Database):
    log = opened(database)
    with database.read() as connection:
        assert open_tree_head(log.head(connection)[1], VERIFY).root == EMPTY_ROOT
        assert check_log(connection, VERIFY) == []


@pytest.mark.parametrize(("index", "size"), [(3, 3), (-1, 3), (0, 4), (0, 0)])
def test_what_is_not_in_the_log_has_no_receipt(database: Database, index: int, size: int):
    log = filled(database, 3)
    with database.read() as connection:
        with pytest.raises(NotInLog):
            log.inclusion_receipt(connection, index, size)
        with pytest.raises(NotInLog):
            log.consistency_receipt(connection, 2 if size < 4 else 0, size if size != 3 else 1)


def test_a_restart_goes_on_where_the_log_was(database: Database):
    filled(database, 5)
    log = opened(database)
    appended = append(database, log, entry(5))
    assert appended.index == 5
    with database.read() as connection:
        assert check_log(connection, VERIFY) == []


def test_a_transaction_that_is_rolled_back_leaves_the_log_as_it_was(database: Database):
    log = filled(database, 5)

    def lost() -> None:
        with database.write() as connection:
            log.append(connection, b"never committed", 1_000)
            raise RuntimeError("power loss")

    with pytest.raises(RuntimeError, match="power loss"):
        lost()
    assert append(database, log, entry(5)).root == root_of([entry(index) for index in range(6)])
    with database.read() as connection:
        assert check_log(connection, VERIFY) == []


def test_a_second_process_that_appends_is_followed(database: Database):
    first = filled(database, 3)
    second = opened(database)
    append(database, second, entry(3))
    append(database, second, entry(4))
    assert append(database, first, entry(5)).root == root_of([entry(index) for index in range(6)])


def rewrite(database: Database, *statements: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def fork(database: Database, count: int) -> None:
    """Replace the whole log by another of ``count`` entries, under the same key: what a thief of the key
    would do."""
    with database.write() as connection:
        for table in ("batches", "log_nodes", "log_heads"):
            connection.execute(text(f"DELETE FROM {table}"))
    other = opened(database)
    for index in range(count):
        append(database, other, b"forged %d" % index)


@pytest.mark.threat(13)
@pytest.mark.parametrize("count", [3, 5, 8])
def test_a_forked_log_is_noticed_at_the_next_append_and_signing_stops(database: Database, count: int):
    log = filled(database, 5)
    fork(database, count)
    with pytest.raises(LogForked, match=r"cut|forked"):
        append(database, log, entry(5))
    assert log.stopped
    with database.read() as connection, pytest.raises(LogForked):
        log.inclusion_receipt(connection, 0, 1)
    with pytest.raises(LogForked):
        append(database, log, entry(5))
    with database.read() as connection:
        assert log.head(connection)[0].tree_size == count


@pytest.mark.threat(13)
def test_a_log_that_was_cut_is_noticed(database: Database):
    log = filled(database, 5)
    rewrite(
        database,
        "DELETE FROM log_heads WHERE tree_size > 4",
        "DELETE FROM log_nodes WHERE level = 0 AND idx >= 4",
        "DELETE FROM batches WHERE log_index >= 4",
    )
    with database.read() as connection:
        assert check_log(connection, VERIFY) == []  # by itself it looks sound: only memory tells
    with pytest.raises(LogForked, match="had 5 entries and now has 4"):
        append(database, log, entry(5))


@pytest.mark.threat(13)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE batches SET settlement = zeroblob(1) WHERE log_index = 2", "node 0/2 doesn't follow"),
        ("UPDATE batches SET settlement = 'text' WHERE log_index = 2", "entry 2 is no byte string"),
        ("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 1 AND idx = 0", "node 1/0 doesn't follow"),
        ("UPDATE log_heads SET root = zeroblob(32) WHERE tree_size = 3", "another root than its entries"),
        ("UPDATE log_heads SET time_ms = 7 WHERE tree_size = 3", "something else than was signed"),
        ("UPDATE log_heads SET envelope = zeroblob(99) WHERE tree_size = 3", "not signed by this log's key"),
        ("DELETE FROM log_heads WHERE tree_size = 3", "no head of 3 entries"),
        ("DELETE FROM batches WHERE log_index = 2", "entries are missing"),
        ("DELETE FROM batches WHERE log_index = 4", "log has 4 entries"),
        ("DELETE FROM log_nodes WHERE level = 0 AND idx = 4", "log has 4 leaves"),
    ],
)
def test_damage_is_found_and_stops_the_log(database: Database, damage: str, words: str):
    log = filled(database, 5)
    if "'text'" in damage and database.engine.dialect.name == POSTGRESQL:
        words = "node 0/2 doesn't follow"  # its column takes nothing but bytes
    rewrite(database, damage)
    with database.write() as connection:
        assert any(words in violation for violation in check_log(connection, VERIFY))
        with pytest.raises(LogForked):
            log.check(connection)
    with pytest.raises(LogForked):
        opened(database)


@pytest.mark.threat(13)
def test_another_key_can_not_take_over(database: Database):
    filled(database, 2)
    with pytest.raises(LogForked, match="not signed by this log's key"):
        opened(database, bytes(32))


def test_a_quick_check_looks_at_the_tail_only(database: Database):
    filled(database, 9)
    rewrite(database, "UPDATE batches SET settlement = zeroblob(1) WHERE log_index = 1")
    with database.read() as connection:
        assert check_log(connection, VERIFY, tail=3) == []
        assert check_log(connection, VERIFY, tail=8) != []
        assert check_log(connection, VERIFY) != []


@pytest.mark.threat(13)
def test_damage_is_found_while_running_too(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("surge_backend.log.merkle_log.CHECK_EVERY", 4)
    log = filled(database, 5)
    rewrite(database, "UPDATE batches SET settlement = zeroblob(1) WHERE log_index = 1")
    append(database, log, entry(5))
    append(database, log, entry(6))
    with pytest.raises(LogForked, match="doesn't follow from the entries"):
        append(database, log, entry(7))
