"""`surge backend rebuild-telemetry`: drops the telemetry store's points and writes them anew from stored
batches.

Place in the flow: called by `cli`, while no backend runs on the data directory. Telemetry is derived, so the
result is what was there before, or what should have been (invariant 5).

Rules kept: a store that can't be used is an error before anything is dropped; breaking it off is harmless,
the backend goes on from where it stopped.
"""

import asyncio
import sys
import time

from surge_backend.db.engine import Database
from surge_backend.errors import BackendError
from surge_backend.keys import read_log_key
from surge_backend.log import MerkleLog
from surge_backend.observability import set_up_logging
from surge_backend.opening import as_user_error, cursor_name, locked_data_dir, opened_database, shown_url
from surge_backend.projection import make_projector
from surge_backend.settings import Settings, store_settings
from surge_backend.telemetry.factory import make_store
from surge_backend.telemetry.projector import Projector
from surge_backend.telemetry.store import StoreUnavailable
from surge_host.errors import UserError

PROGRESS_EVERY_S = 1.0


def rebuild_telemetry(settings: Settings) -> int:
    """Rebuild, with progress on stderr. Raises UserError."""
    set_up_logging(settings.log.level, settings.log.format == "json")
    with locked_data_dir(settings), opened_database(settings) as database:
        try:
            points, batches = asyncio.run(_rebuild(settings, database))
        except BackendError as error:
            raise as_user_error(error, shown_url(database)) from error
    print(f"Telemetry is rebuilt: {points} points from {batches} batches.")  # noqa: T201
    return 0


async def _rebuild(settings: Settings, database: Database) -> tuple[int, int]:
    store = make_store(store_settings(settings))
    try:
        try:
            await store.open()
            health = await store.health()
        except StoreUnavailable as error:
            raise UserError(error.what, "[telemetry]", error.remedy) from error
        if not health.ok:
            raise UserError(f"the telemetry store doesn't answer: {health.detail}", "[telemetry]", "start it")
        log = MerkleLog(read_log_key(settings.storage.log_key_path).seed)
        with database.read() as connection:
            total = log.head(connection)[0].tree_size
        projector = make_projector(
            database,
            store,
            settings.telemetry.retry_max_s,
            settings.telemetry.series_per_device_max,
            cursor_name=cursor_name(settings),
        )
        await projector.rebuild()
        projector.notify(total)
        async with asyncio.TaskGroup() as tasks:
            progress = tasks.create_task(_show_progress(projector, total), name="progress")
            await projector.catch_up()
            progress.cancel()
        return projector.stats.written, projector.stats.position
    finally:
        await store.close()


async def _show_progress(projector: Projector, total: int) -> None:
    started_s = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        stats = projector.stats
        trouble = f", waiting: {stats.last_error}" if stats.last_error else ""
        print(  # noqa: T201
            f"{stats.position} of {total} batches, {stats.written} points,"
            f" {time.monotonic() - started_s:.0f} s{trouble}",
            file=sys.stderr,
            flush=True,
        )
