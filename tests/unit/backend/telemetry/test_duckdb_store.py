"""DuckDB's own faults: a locked, damaged or foreign file, a full disk, a crash, a query without end."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from surge_backend.telemetry.duckdb_store import DuckDbStore
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.store import StoreQueryFailed, StoreUnavailable

T0_NS = 1_700_000_000_000_000_000
BACKEND = Path(__file__).parents[4]
PYTHONPATH = f"{BACKEND / 'backend'}:{BACKEND / 'protocol'}"


def numbered(count: int, name: str = "n") -> list[Point]:
    return [Point("dabcdefghijklmno2", name, "", T0_NS + i, float(i)) for i in range(count)]


def python(program: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": PYTHONPATH},
    )


HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
connection.close()
"""


async def test_a_file_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    store = DuckDbStore(path)
    with python(HOLDER, str(path)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreUnavailable, match="another process has it open"):
            await store.open()
        with pytest.raises(StoreUnavailable, match="another process"):
            await store.write(numbered(3))
        assert not (await store.health()).ok
        holder.communicate("")
    await store.write(numbered(3))  # no restart of ours needed
    assert await store.count() == 3
    await store.close()


async def test_a_damaged_file_says_so_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    path.write_bytes(b"not a database " * 1000)
    store = DuckDbStore(path)
    with pytest.raises(StoreUnavailable, match="rebuild-telemetry"):
        await store.open()
    assert path.read_bytes() == b"not a database " * 1000
    await store.close()


async def test_a_file_of_another_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE telemetry (device VARCHAR, value DOUBLE)")
    store = DuckDbStore(path)
    with pytest.raises(StoreUnavailable, match="another version"):
        await store.write(numbered(1))
    await store.close()


CRASHER = """
import asyncio, os, sys
from pathlib import Path
from surge_backend.telemetry.duckdb_store import DuckDbStore
from surge_backend.telemetry.points import Point

async def main():
    store = DuckDbStore(Path(sys.argv[1]))
    for part in range(5):
        times = range(1_700_000_000_000_000_000, 1_700_000_000_000_000_100)
        await store.write([Point("dabcdefghijklmno2", f"n{part}", "", time_ns, 1.0) for time_ns in times])
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_a_write_that_returned_survives_a_crash(tmp_path: Path) -> None:
    with python(CRASHER, str(tmp_path / "t.duckdb")) as process:
        process.communicate()
    assert process.returncode == -9
    store = DuckDbStore(tmp_path / "t.duckdb")
    assert await store.count() == 500
    await store.close()


FULL = """
import asyncio, random, resource, sys
from pathlib import Path
from surge_backend.telemetry.duckdb_store import DuckDbStore
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.store import StoreUnavailable

def points(part):
    rng = random.Random(part)
    times = range(1_700_000_000_000_000_000, 1_700_000_000_000_005_000)
    return [Point("dabcdefghijklmno2", f"n{part}", "", time_ns, rng.random()) for time_ns in times]

async def main():
    store = DuckDbStore(Path(sys.argv[1]))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    stored, failures = 0, []
    # After a failure the log may be packed into the file, which makes room once more.
    while len(failures) < 5:
        try:
            await store.write(points(stored))
            stored += 1
        except StoreUnavailable as error:
            failures.append(error.remedy)
    print(failures[0])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    await store.write(points(stored))
    stored += 1
    print(stored, await store.count())
    await store.close()

asyncio.run(main())
"""


@pytest.mark.threat(15)
async def test_row_15_a_full_disk_heals_without_a_restart(tmp_path: Path) -> None:
    with python(FULL, str(tmp_path / "t.duckdb")) as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    remedy, counts = output.splitlines()
    assert "disk is full" in remedy
    stored, count = map(int, counts.split())
    assert stored > 1
    assert count == stored * 5000
    store = DuckDbStore(tmp_path / "t.duckdb")
    assert await store.count() == count
    await store.close()


def endless(connection: duckdb.DuckDBPyConnection) -> Any:
    return connection.execute(
        "SELECT sum(a.range * b.range) FROM range(10_000_000) a, range(10_000_000) b"
    ).fetchall()


async def test_a_query_without_end_is_stopped_and_the_store_goes_on(tmp_path: Path) -> None:
    store = DuckDbStore(tmp_path / "t.duckdb", query_timeout_s=0.05)
    await store.write(numbered(10))
    with pytest.raises(StoreQueryFailed, match="shorter range"):
        await store._run(endless, timed=True)
    assert await store.count() == 10
    await store.close()


async def test_a_cancelled_query_frees_the_store(tmp_path: Path) -> None:
    store = DuckDbStore(tmp_path / "t.duckdb")
    await store.write(numbered(10))
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(connection: duckdb.DuckDBPyConnection) -> Any:
        loop.call_soon_threadsafe(started.set)
        return endless(connection)

    query = asyncio.create_task(store._run(work, timed=True))
    await started.wait()
    query.cancel()
    await asyncio.wait({query})
    assert query.cancelled()
    await store.write(numbered(20))
    assert await store.count() == 20
    await store.close()


async def test_a_cancelled_write_is_whole_or_nothing(tmp_path: Path) -> None:
    store = DuckDbStore(tmp_path / "t.duckdb")
    write = asyncio.create_task(store.write(numbered(5_000)))
    await asyncio.sleep(0)
    write.cancel()
    await asyncio.wait({write})
    assert await store.count() in (0, 5_000)
    await store.write(numbered(5_000))
    assert await store.count() == 5_000
    await store.close()
    await store.close()


async def test_the_store_reads_no_other_file(tmp_path: Path) -> None:
    store = DuckDbStore(tmp_path / "t.duckdb")
    with pytest.raises(StoreUnavailable, match="disabled"):
        await store._run(lambda connection: connection.execute("FROM read_csv('/etc/passwd')").fetchall())
    await store.close()
