"""What a projector works with: its source, its cursor, its clock, its limits, and what it tells of itself.

Place in the flow: the composition root implements PointSource and Cursor over the backend's database, and
hands them to the projector. Does nothing by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from surge_backend.telemetry.points import Point

CURSOR_START: Final = 0  # log indexes are positive: this is before the first


class PointSource(Protocol):
    """Accepted reports as points, by position in the log. May raise StoreUnavailable."""

    async def read(self, after: int, limit: int) -> Sequence[tuple[int, Sequence[Point]]]:
        """The first ``limit`` entries with an index above ``after``, ascending; fewer only at the log's end.

        An entry without points is an entry with an empty sequence, or may be left out if a later one follows.
        """


class Cursor(Protocol):
    """Where the projection stands, kept durably. May raise StoreUnavailable."""

    async def load(self) -> int:
        """The last index saved, CURSOR_START at first."""

    async def save(self, index: int) -> None:
        """Keeps ``index``."""


class Clock(Protocol):
    """Time as the projector sees it; tests bring their own."""

    def monotonic_s(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Lets others run for so long."""

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Returns when ``event`` is set, or after ``timeout_s``."""


class SystemClock:
    """The machine's clock."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            pass


@dataclass(frozen=True, slots=True)
class ProjectorSettings:
    """Limits of the projector; durations in seconds."""

    entries_max: int = 500  # log entries read at once; with 64 points each, 32,000 points at most in memory
    points_max: int = 10_000  # points in one write
    poll_s: float = 30.0  # looks for new entries this often even if nobody notified
    rest_s: float = 0.0  # rest between two reads while catching up; 0 only lets others run
    backoff_first_s: float = 0.5
    backoff_max_s: float = 60.0  # also the most that a store's own Retry-After is followed

    def __post_init__(self) -> None:
        if self.entries_max < 1 or self.points_max < 1:
            raise ValueError("projector: entries_max and points_max must be 1 or more")
        if not 0 < self.backoff_first_s <= self.backoff_max_s or self.poll_s <= 0 or self.rest_s < 0:
            raise ValueError(
                "projector: durations must be positive, and backoff_first_s at most backoff_max_s"
            )


@dataclass(frozen=True, slots=True)
class ProjectorStats:
    """What the projector has done since it started. Repeated writes count again in ``written``."""

    position: int = CURSOR_START  # the last entry written
    saved: int = CURSOR_START  # the last entry that a restart won't repeat
    newest: int = CURSOR_START  # the last entry known to exist
    written: int = 0
    rejected: int = 0
    retries: int = 0
    rewinds: int = 0  # times that the store may have lost points, and they were written again
    last_error: str = ""  # "" while all is well
    last_rejection: str = ""

    @property
    def lag(self) -> int:
        """Entries known to exist and not yet written."""
        return max(0, self.newest - self.position)
