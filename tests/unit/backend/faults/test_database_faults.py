"""Power cuts, kills, full disks and I/O errors at every operation on the database's files (threats 10, 15).

The rules that every run checks: a batch that was answered is there with the same answer, a batch that wasn't
is settled once when it is sent again, every invariant holds, and in the end each row is the one of the run
without faults.

`make test` tries a sample of the operations; SURGE_FAULT_SEEDS=20 tries all of them, for so many plans.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import pytest
from apsw_dbapi import Cursor
from database_site import Broken, DatabaseSite, Disks, Prepared, closing
from power_disk import PowerDisk

SEEDS = int(os.environ.get("SURGE_FAULT_SEEDS", "0"))
SAMPLE = 10  # operations of a plan that are tried, beside the kinds that are rare in it
OF_EACH_KIND = 2  # create, write, sync, truncate and remove, of the database, its WAL and its journal

Make = Callable[[int], Prepared]


def seeds(first: int, count: int = 1) -> list[int]:
    return list(range(first, first + (SEEDS or count)))


def points(history: Sequence[str], seed: int) -> list[int]:
    """Which operations to fail: all, or a sample with some of every kind."""
    everything = range(1, len(history) + 1)
    source = random.Random(seed)
    found = set(everything if SEEDS else source.sample(everything, min(SAMPLE, len(history))))
    for kind in Counter(history):
        of_kind = [number for number, each in enumerate(history, 1) if each == kind]
        found.update(source.sample(of_kind, min(OF_EACH_KIND, len(of_kind))))
    print(f"{len(found)} of {len(history)} operations: {dict(Counter(history[at - 1] for at in found))}")
    return sorted(found)


def live(site: DatabaseSite) -> None:
    """Start, and run the plan to its end or until the machine is off."""
    try:
        site.start()
    except Exception:
        if not site.disk.off:
            raise
        return
    site.run()


def finish(site: DatabaseSite, prepared: Prepared) -> None:
    """To the plan's end on a disk that works; then everything is as without faults."""
    site.verify()
    site.run()
    site.verify()
    assert site.world.snapshot() == prepared.rows


def finish_after_cut(site: DatabaseSite, prepared: Prepared) -> None:
    """The power goes and comes back: what was answered is there, and the rest of the plan goes through."""
    site.power_cut()
    site.start()
    finish(site, prepared)


@pytest.mark.threat(10)
@pytest.mark.threat(15)
@pytest.mark.parametrize("seed", seeds(100, 2))
def test_a_power_cut_at_any_operation_loses_nothing_answered(prepared: Make, seed: int) -> None:
    plan = prepared(seed)
    for cut_at in points(plan.history, seed):
        with closing(plan.site(cut_at)) as site:
            site.disk.cut_at = cut_at
            live(site)
            finish_after_cut(site, plan)


@pytest.mark.threat(10)
@pytest.mark.parametrize("seed", seeds(200))
def test_a_second_power_cut_while_it_recovers_loses_nothing_answered(prepared: Make, seed: int) -> None:
    plan = prepared(seed)
    for cut_at in points(plan.history, seed):
        with closing(plan.site(cut_at)) as site:
            site.disk.cut_at = cut_at
            live(site)
            site.power_cut()
            site.disk.cut_at = random.Random(cut_at).randrange(1, 30)
            live(site)
            finish_after_cut(site, plan)


@pytest.mark.threat(10)
@pytest.mark.parametrize("seed", seeds(300))
def test_a_killed_process_and_later_a_power_cut_lose_nothing_answered(prepared: Make, seed: int) -> None:
    """What a killed process wrote can be read by the next, which must not rely on it before it is synced."""
    plan = prepared(seed)
    for killed_at in points(plan.history, seed):
        with closing(plan.site(killed_at)) as site:
            site.disk.cut_at = killed_at
            live(site)
            site.process_died()
            site.disk.cut_at = site.disk.operations + random.Random(killed_at).randrange(1, 60)
            live(site)
            finish_after_cut(site, plan)


@pytest.mark.threat(15)
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("seed", seeds(400))
def test_errors_from_any_operation_on_give_no_false_answer_and_need_no_restart(
    prepared: Make, seed: int, full: bool, length: int
) -> None:
    """`length` operations in a row fail; in the end the power goes, and all answers are still there."""
    codes = {
        "write": apsw.SQLITE_FULL if full else apsw.SQLITE_IOERR_WRITE,
        "sync": apsw.SQLITE_IOERR_FSYNC,
        "truncate": apsw.SQLITE_IOERR_TRUNCATE,
        "create": apsw.SQLITE_CANTOPEN,
        "remove": apsw.SQLITE_IOERR_DELETE,
        "sync_folder": apsw.SQLITE_IOERR_DIR_FSYNC,
    }
    plan = prepared(seed)
    refused = 0
    for failing in points(plan.history, seed):
        with closing(plan.site(failing)) as site:
            site.start()
            failed = range(site.disk.operations + failing, site.disk.operations + failing + length)

            def fail(kind: str, _name: str, site: DatabaseSite = site, failed: range = failed) -> int | None:
                return codes.get(kind) if site.disk.operations in failed else None

            site.disk.fail = fail
            site.run()
            site.disk.fail = lambda _kind, _name: None
            finish(site, plan)
            refused += site.refused
            finish_after_cut(site, plan)
    assert refused > 0


@pytest.mark.threat(15)
@pytest.mark.parametrize("seed", seeds(500))
def test_a_read_that_fails_gives_no_false_answer_and_needs_no_restart(prepared: Make, seed: int) -> None:
    plan = prepared(seed)
    for failing in points(["read"] * plan.reads, seed):
        with closing(plan.site(failing)) as site:
            site.start()

            def fail(kind: str, _name: str, site: DatabaseSite = site, at: int = failing) -> int | None:
                return apsw.SQLITE_IOERR_READ if kind == "read" and site.disk.reads == at else None

            site.disk.fail = fail
            site.run()
            site.disk.fail = lambda _kind, _name: None
            finish(site, plan)


@pytest.mark.threat(15)
@pytest.mark.parametrize("seed", seeds(600))
def test_an_error_and_then_a_power_cut_lose_nothing_answered(prepared: Make, seed: int) -> None:
    """After a failed sync the system forgets the bytes: what is answered later must not rest on them."""
    plan = prepared(seed)
    for failing in points(plan.history, seed):
        with closing(plan.site(failing)) as site:
            site.start()
            at = site.disk.operations + failing
            site.disk.cut_at = at + random.Random(failing).randrange(1, 80)

            def fail(kind: str, _name: str, site: DatabaseSite = site, at: int = at) -> int | None:
                failing = kind != "read" and site.disk.operations == at
                return apsw.SQLITE_IOERR_FSYNC if failing else None

            site.disk.fail = fail
            site.run()
            finish_after_cut(site, plan)


@pytest.mark.threat(10)
def test_a_power_cut_in_the_first_start_leaves_what_a_second_completes(disks: Disks, open_at: Make) -> None:
    """Making the tables is one transaction: they are all there, or the next start makes them."""

    def begin(cut_at: int | None) -> tuple[list[str], set[str]]:
        site = DatabaseSite(disks, open_at, [])
        site.mount(PowerDisk(cut_at or 0), {})
        with closing(site):
            site.disk.cut_at = cut_at
            live(site)
            history = site.disk.history
            site.power_cut()
            site.start()
            site.verify()
            return history, {name for name, rows in site.world.snapshot().items() if rows}

    history, clean = begin(None)
    for cut_at in points(history, 7):
        assert begin(cut_at)[1] == clean


def test_the_simulated_disk_finds_out_a_database_that_does_not_wait_for_it(
    prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That these tests can fail: with a weaker promise than ours, an answered batch is lost somewhere."""
    plan = prepared(100)
    execute = Cursor.execute

    def weakened(cursor: Cursor, sql: str, parameters: Any = ()) -> Cursor:
        return execute(cursor, sql.replace("synchronous = FULL", "synchronous = NORMAL"), parameters)

    monkeypatch.setattr(Cursor, "execute", weakened)
    lost = 0
    for cut_at in range(len(plan.history) // 2, len(plan.history), 16):
        with closing(plan.site(cut_at)) as site:
            site.disk.cut_at = cut_at
            live(site)
            site.power_cut()
            site.start()
            try:
                site.verify()
            except Broken:
                lost += 1
    assert lost > 0
