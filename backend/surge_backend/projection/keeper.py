"""Runs the projector while this process has the lease, and tells how far behind it is, whoever projects.

Place in the flow: `app` runs one `Keeper` beside the server. Decides nothing about points.

Rules it keeps: a defect in the projector is logged and tried again, since batches must go on; who gets the
lease begins at the stored cursor, where the one before left it; batches that other processes settle are
noticed within LEASE_POLL_S.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from surge_backend.db.engine import Database
from surge_backend.db.schema import log_heads, projector_state
from surge_backend.errors import BackendError
from surge_backend.projection.lease import LEASE_POLL_S, Lease
from surge_backend.projection.source import CURSOR_NAME
from surge_backend.telemetry.projector import Projector

PROJECTOR_RESTART_S: Final = 5.0  # after a failure that is a defect, not the store's

_log = structlog.get_logger("surge.backend.projection")
T = TypeVar("T")


class Keeper:
    """One for each process; `sleep` is the clock's."""

    def __init__(
        self,
        database: Database,
        projector: Projector,
        lease: Lease,
        cursor_name: str = CURSOR_NAME,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._projector = projector
        self._lease = lease
        self._cursor_name = cursor_name
        self._sleep = sleep
        self._held = False
        self._others_lag: int | None = None  # as the database has it

    @property
    def holds(self) -> bool:
        """Whether this process projects."""
        return self._held

    @property
    def lag(self) -> int:
        """Batches whose telemetry is still to be written, by whichever process does it; of another's at most
        LEASE_POLL_S old."""
        return self._projector.stats.lag if self._others_lag is None else self._others_lag

    async def run(self) -> NoReturn:
        """For ever."""
        try:
            while True:
                self._held = await asyncio.to_thread(self._lease.take)
                if self._held:
                    _log.info("projector_begins")
                    self._others_lag = None
                    await self._project()
                    _log.warning("projector_lease_lost")
                else:
                    self._others_lag = await self._asked(self._read_lag, 0)
                    await self._sleep(LEASE_POLL_S)
        finally:
            self._held = False
            self._lease.release()

    async def _project(self) -> None:
        """Until the lease is lost."""
        self._projector.resume()
        task = asyncio.create_task(self._keep_projecting(), name="projector")
        try:
            while self._held:
                self._projector.notify(await self._asked(self._read_newest, 0))
                await self._sleep(LEASE_POLL_S)
                self._held = await asyncio.to_thread(self._lease.take)
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _keep_projecting(self) -> NoReturn:
        while True:
            try:
                await self._projector.run()
            except Exception:
                _log.exception("projector_failed", restart_in_s=PROJECTOR_RESTART_S)
            await self._sleep(PROJECTOR_RESTART_S)

    async def _asked(self, question: Callable[[], T], otherwise: T) -> T:
        try:
            return await asyncio.to_thread(question)
        except (BackendError, SQLAlchemyError):
            # a database that is busy or gone is told elsewhere; it is asked again soon
            return otherwise

    def _read_newest(self) -> int:
        with self._database.read() as connection:
            return connection.execute(select(func.max(log_heads.c.tree_size))).scalar() or 0

    def _read_lag(self) -> int:
        with self._database.read() as connection:
            newest = connection.execute(select(func.max(log_heads.c.tree_size))).scalar() or 0
            saved = connection.execute(
                select(projector_state.c.value).where(projector_state.c.name == self._cursor_name)
            ).scalar()
        return max(0, newest - (saved or 0))
