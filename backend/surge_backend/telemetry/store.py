"""The telemetry store's port: what every store can do, and how each says that it can't.

Place in the flow: the projector writes points through it, the API reads samples through it. Implementations:
duckdb_store (default, one file), influx1_store, influx2_store (and what speaks its protocol). One contract
suite runs on all of them.

Does not: keep anything of value. Telemetry is derived; a store can be dropped and rebuilt from the accepted
reports and comes out the same.

Rules that every store keeps: a write is idempotent, and durable when it returns (``durability_lag_ms`` says
where a server can't promise that); a newer write under a point's key wins; samples come in order of time,
name and unit; numbers come back as floats; what a caller gives is bound or strictly encoded, never pasted
into a query; no message or log line carries a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, get_args

from surge_backend.telemetry.points import (
    NS_PER_MS,
    TIME_MAX_NS,
    TIME_MIN_NS,
    Point,
    Value,
    check_device_id,
    check_name,
)

# A query that wants more is refused; the caller asks again from the last sample's time, or for windows.
QUERY_LIMIT_MAX: Final = 10_000
QUERY_LIMIT_DEFAULT: Final = 1_000
# Windows that a range may be cut into; more is refused, because servers build every window before they limit.
QUERY_WINDOWS_MAX: Final = 100_000
# Distinct (name, unit) that `latest` returns of one device; those after it in order are left out.
LATEST_MAX: Final = 1_000

TIME_MIN_MS: Final = TIME_MIN_NS // NS_PER_MS
TIME_MAX_MS: Final = TIME_MAX_NS // NS_PER_MS

Aggregate = Literal["mean", "min", "max", "count", "last"]
AGGREGATES: Final[tuple[Aggregate, ...]] = get_args(Aggregate)


class StoreError(Exception):
    """Base of what a telemetry store raises."""


class StoreUnavailable(StoreError):
    """The store can't do it now; the same call may succeed later.

    ``retry_after_s`` is the store's own wish, None if it had none. ``remedy`` is what a person can do.
    """

    def __init__(self, what: str, remedy: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy
        self.retry_after_s = retry_after_s


class StoreQueryFailed(StoreError):
    """This query can't be answered, now or later, unless it changes; the message says how."""


@dataclass(frozen=True, slots=True)
class RejectedPoint:
    """A point that the store will never take, and the store's reason."""

    point: Point
    reason: str


class StoreRejected(StoreError):
    """Some points will never fit. Every other point of the same write is stored when this is raised."""

    def __init__(self, rejected: Sequence[RejectedPoint]) -> None:
        first = rejected[0]
        super().__init__(f"{len(rejected)} telemetry points refused, first {first.point.key}: {first.reason}")
        self.rejected = tuple(rejected)


class QueryError(ValueError):
    """The query breaks a rule of TelemetryQuery; the message says which."""


@dataclass(frozen=True, slots=True)
class TelemetryQuery:
    """Samples of one device in ``[from_ms, to_ms)``, of one quantity or all, at most ``limit``, oldest first.

    With ``window_ms`` and ``aggregate``, one sample for each window that has numbers: windows are aligned to
    1970, the sample's time is the window's start, only points within the range count, truth values and texts
    are passed over. Raises QueryError, or PointError for an id or a name that can't be one.
    """

    device_id: str
    from_ms: int
    to_ms: int
    name: str | None = None
    limit: int = QUERY_LIMIT_DEFAULT
    window_ms: int | None = None
    aggregate: Aggregate | None = None

    def __post_init__(self) -> None:
        check_device_id(self.device_id)
        if self.name is not None:
            check_name(self.name)
        for label, number in (("from_ms", self.from_ms), ("to_ms", self.to_ms), ("limit", self.limit)):
            if type(number) is not int:
                raise QueryError(f"{label} is not an integer")
        if not TIME_MIN_MS <= self.from_ms < self.to_ms <= TIME_MAX_MS:
            raise QueryError(
                "from_ms and to_ms are not a range of milliseconds within the years 2000 to 2099"
            )
        if not 1 <= self.limit <= QUERY_LIMIT_MAX:
            raise QueryError(f"limit is not 1 to {QUERY_LIMIT_MAX}")
        if (self.window_ms is None) != (self.aggregate is None):
            raise QueryError("window_ms and aggregate go together")
        if self.window_ms is not None:
            self._check_window(self.window_ms)

    def _check_window(self, window_ms: int) -> None:
        if self.aggregate not in AGGREGATES:
            raise QueryError(f"aggregate is not one of {', '.join(AGGREGATES)}")
        if type(window_ms) is not int or window_ms < 1:
            raise QueryError("window_ms is not a positive integer")
        if (self.to_ms - self.from_ms) // window_ms >= QUERY_WINDOWS_MAX:
            raise QueryError(f"the range has more than {QUERY_WINDOWS_MAX} windows: ask for wider windows")


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored point as read, or a window's aggregate (then ``flags`` is 0 and ``time_ns`` the window's
    start)."""

    device_id: str
    name: str
    unit: str
    time_ns: int
    value: Value
    flags: int = 0


def sample_order(sample: Sample) -> tuple[int, str, str]:
    """The key by which samples are ordered."""
    return (sample.time_ns, sample.name, sample.unit)


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Whether the store answers and would take a write; ``instance`` changes when its process restarts ("":
    unknown)."""

    ok: bool
    detail: str
    instance: str = ""


@dataclass(frozen=True, slots=True)
class StoreCapabilities:
    """Where a store falls short of the contract, so that a caller can allow for it."""

    text: bool = True  # False: text points are rejected
    time_unit_ns: int = 1  # times are cut down to a multiple of it; points of one series that meet become one
    # A written point may still be lost in a crash of the server for this long; the projector then writes it
    # again.
    durability_lag_ms: int = 0
    unlike: tuple[str, ...] = field(default=())  # further differences, in words, for the operator


class TelemetryStore(Protocol):
    """The port. Calls may overlap. Any but close may raise StoreUnavailable."""

    @property
    def capabilities(self) -> StoreCapabilities:
        """What this store can't do."""

    async def open(self) -> None:
        """Gets ready. A store behind a network doesn't dial here: it may come up after us."""

    async def close(self) -> None:
        """Ends what `open` began; safe to call twice."""

    async def write(self, points: Sequence[Point]) -> None:
        """Stores all points, replacing those of the same key. Raises StoreRejected when all others are
        stored."""

    async def query(self, query: TelemetryQuery) -> list[Sample]:
        """The samples that ``query`` describes, ordered by time, name, unit."""

    async def latest(self, device_id: str) -> list[Sample]:
        """The newest sample of each (name, unit) of the device, ordered by name and unit, at most
        LATEST_MAX."""

    async def count(self) -> int:
        """How many points the store holds. For maintenance and tests: may read everything."""

    async def drop_all(self) -> None:
        """Removes every telemetry point, and nothing else that the server may hold."""

    async def health(self) -> StoreHealth:
        """Asks the store; never raises StoreUnavailable."""
