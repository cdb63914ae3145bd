"""Brings accepted reports into the telemetry store, in the order of the log, for ever.

Place in the flow: behind ingest, and never in its way: ingest commits a report and calls `notify`; the
projector reads accepted reports after its cursor and writes their points. A store that is down for an hour
costs nothing but time.

Does not: verify, price, or decide which points a report has: the source does that.

Rules it keeps:

* the cursor is saved only after the points before it are stored for good, so a crash repeats writes and never
  skips one. Writes are idempotent, so repeating is harmless. Where a store may lose what it took in a crash
  of its own (``durability_lag_ms``), the cursor follows that much later, and goes on only if the server
  hasn't restarted in between;
* StoreUnavailable, from the store, the source or the cursor, is tried again without end, with jittered
  back-off up to a cap;
* a point that the store will never take is counted and told to ``on_rejected``; it holds up nothing;
* memory is bounded: one read of at most ``entries_max`` entries at a time, written in parts of
  ``points_max``;
* catching up doesn't starve the present: between two reads it rests ``rest_s``, and lets everything else run.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from surge_backend.telemetry.points import Point
from surge_backend.telemetry.projection import (
    CURSOR_START,
    Clock,
    Cursor,
    PointSource,
    ProjectorSettings,
    ProjectorStats,
    SystemClock,
)
from surge_backend.telemetry.store import StoreRejected, StoreUnavailable, TelemetryStore


def _ignore_rejection(index: int, point: Point, reason: str) -> None:
    pass


class Projector:
    """Runs one projection. One instance per store; `run` it as a task, or `catch_up` and return."""

    def __init__(
        self,
        source: PointSource,
        cursor: Cursor,
        store: TelemetryStore,
        settings: ProjectorSettings | None = None,
        clock: Clock | None = None,
        *,
        on_rejected: Callable[[int, Point, str], None] = _ignore_rejection,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._source, self._cursor, self._store = source, cursor, store
        self._settings = settings or ProjectorSettings()
        self._clock: Clock = clock or SystemClock()
        self._on_rejected = on_rejected
        self._jitter = jitter
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stats = ProjectorStats()
        self._loaded = False
        self._attempt = 0
        # Of a store with a durability lag: the entry to save next, when it was written, and by which server
        # process.
        self._candidate: tuple[int, float] | None = None
        self._instance: str | None = None

    @property
    def stats(self) -> ProjectorStats:
        """A snapshot."""
        return self._stats

    def notify(self, newest: int | None = None) -> None:
        """Tells of new entries, up to index ``newest`` if it is known. Cheap; safe to call for each."""
        if newest is not None and newest > self._stats.newest:
            self._stats = replace(self._stats, newest=newest)
        self._news.set()

    def resume(self) -> None:
        """Begin at the stored cursor: while this one rested, another may have gone on."""
        self._loaded, self._candidate, self._instance = False, None, None

    async def run(self) -> None:
        """Projects for ever; ends only by cancellation, at any point, without loss."""
        while True:
            self._news.clear()
            if await self.step():
                await self._clock.sleep(self._settings.rest_s)
            else:
                await self._clock.wait(self._news, self._idle_s())

    async def catch_up(self) -> None:
        """Projects all there is, and returns when the cursor is saved behind it."""
        while await self.step() or self._stats.saved < self._stats.position:
            idle = self._candidate is not None and self._stats.lag == 0
            await self._clock.sleep(self._due_in_s() if idle else self._settings.rest_s)

    async def rebuild(self) -> None:
        """Drops the store's points and starts over; `run` or `catch_up` does the rest."""
        async with self._turn:
            while True:
                try:
                    # The cursor first: a crash between the two repeats writes, the other way round it would
                    # lose all.
                    await self._cursor.save(CURSOR_START)
                    await self._store.drop_all()
                    break
                except StoreUnavailable as error:
                    await self._back_off(error)
            self._recovered()
            self._loaded, self._candidate = True, None
            self._stats = replace(self._stats, position=CURSOR_START, saved=CURSOR_START)
        self.notify()

    async def step(self) -> bool:
        """One read, its writes and the cursor; True if there may be more to do at once. Errors end in
        back-off."""
        async with self._turn:
            try:
                more = await self._advance()
            except StoreUnavailable as error:
                self._rewind_if_volatile()
                await self._back_off(error)
                return True
            self._recovered()
            return more

    async def _advance(self) -> bool:
        if not self._loaded:
            saved = await self._cursor.load()
            self._stats = replace(self._stats, position=saved, saved=saved)
            self._loaded = True
        if self._volatile and self._instance is None:
            self._instance = await self._instance_now()
        entries = await self._source.read(self._stats.position, self._settings.entries_max)
        for chunk in self._chunks(entries):
            await self._write(chunk)
            self._stats = replace(self._stats, position=chunk[-1][0])
        full = len(entries) >= self._settings.entries_max
        newest = self._stats.newest if full else max(self._stats.newest, self._stats.position)
        self._stats = replace(self._stats, newest=max(newest, self._stats.position))
        await self._save()
        return full

    def _chunks(
        self, entries: Sequence[tuple[int, Sequence[Point]]]
    ) -> Iterator[list[tuple[int, Sequence[Point]]]]:
        """Whole entries, together at most points_max points; an entry with more is a chunk of its own."""
        chunk: list[tuple[int, Sequence[Point]]] = []
        count = 0
        for entry in entries:
            if chunk and count + len(entry[1]) > self._settings.points_max:
                yield chunk
                chunk, count = [], 0
            chunk.append(entry)
            count += len(entry[1])
        if chunk:
            yield chunk

    async def _write(self, chunk: Sequence[tuple[int, Sequence[Point]]]) -> None:
        points = [point for _, entry in chunk for point in entry]
        for start in range(0, len(points), self._settings.points_max):
            part = points[start : start + self._settings.points_max]
            refused = 0
            try:
                await self._store.write(part)
            except StoreRejected as error:
                refused = len(error.rejected)
                self._tell_rejected(chunk, error)
            self._stats = replace(self._stats, written=self._stats.written + len(part) - refused)

    def _tell_rejected(self, chunk: Sequence[tuple[int, Sequence[Point]]], error: StoreRejected) -> None:
        index_of = {point: index for index, entry in chunk for point in entry}
        self._stats = replace(
            self._stats,
            rejected=self._stats.rejected + len(error.rejected),
            last_rejection=str(error),
        )
        for item in error.rejected:
            self._on_rejected(index_of[item.point], item.point, item.reason)

    # --- the cursor ---------------------------------------------------------------------------------------

    @property
    def _volatile(self) -> bool:
        return self._store.capabilities.durability_lag_ms > 0

    async def _save(self) -> None:
        if not self._volatile:
            if self._stats.saved != self._stats.position:
                await self._save_at(self._stats.position)
            return
        if self._candidate is not None and self._due_in_s() <= 0:
            if await self._instance_now() != self._instance:
                raise StoreUnavailable(
                    "the telemetry store restarted, and may have lost its latest points",
                    "they are written again",
                )
            await self._save_at(self._candidate[0])
            self._candidate = None
        if self._candidate is None and self._stats.saved < self._stats.position:
            self._candidate = (self._stats.position, self._clock.monotonic_s())

    async def _save_at(self, index: int) -> None:
        await self._cursor.save(index)
        self._stats = replace(self._stats, saved=index)

    async def _instance_now(self) -> str:
        health = await self._store.health()
        if not health.ok:
            raise StoreUnavailable(health.detail, "its durability can't be told until it answers")
        return health.instance

    def _rewind_if_volatile(self) -> None:
        """What isn't saved may be lost with the server's memory: it is written again."""
        if self._volatile and self._loaded:
            if self._stats.position != self._stats.saved:
                self._stats = replace(
                    self._stats, position=self._stats.saved, rewinds=self._stats.rewinds + 1
                )
            self._candidate = self._instance = None

    def _due_in_s(self) -> float:
        if self._candidate is None:
            return 0.0
        lag_s = self._store.capabilities.durability_lag_ms / 1000
        return max(0.0, self._candidate[1] + lag_s - self._clock.monotonic_s())

    def _idle_s(self) -> float:
        poll_s = self._settings.poll_s
        return poll_s if self._candidate is None else min(poll_s, self._due_in_s())

    # --- trouble ------------------------------------------------------------------------------------------

    async def _back_off(self, error: StoreUnavailable) -> None:
        self._stats = replace(self._stats, retries=self._stats.retries + 1, last_error=str(error))
        cap_s = self._settings.backoff_max_s
        # The exponent is bounded too: a float overflows after a thousand attempts.
        delay_s = min(cap_s, self._settings.backoff_first_s * 2 ** min(self._attempt, 32))
        self._attempt += 1
        delay_s = delay_s / 2 + delay_s / 2 * self._jitter()
        await self._clock.sleep(min(cap_s, max(delay_s, error.retry_after_s or 0.0)))

    def _recovered(self) -> None:
        self._attempt = 0
        if self._stats.last_error:
            self._stats = replace(self._stats, last_error="")
