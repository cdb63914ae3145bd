"""What the routes work with: everything that `app` has opened, in one place.

Place in the flow: built by `app` (or a test), kept on the application, taken by routes as a dependency. Opens and closes
nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from surge_backend.api.rates import Rate, TokenBuckets
from surge_backend.db.engine import Database
from surge_backend.keys import SecretVault

if TYPE_CHECKING:
    from surge_backend.ingest import Ingest
    from surge_backend.log import Log
    from surge_backend.metrics import Metrics
    from surge_backend.telemetry.projector import Projector
    from surge_backend.telemetry.store import TelemetryStore


@dataclass(frozen=True)
class RateLimits:
    """The three buckets per client address; at the limit the answer is 429 with Retry-After."""

    public: TokenBuckets
    enrolment: TokenBuckets
    failed_tokens: TokenBuckets

    @classmethod
    def of(cls, public: Rate, enrolment: Rate, failed_tokens: Rate) -> "RateLimits":
        """Fresh buckets of these rates."""
        return cls(TokenBuckets(public), TokenBuckets(enrolment), TokenBuckets(failed_tokens))


@dataclass(frozen=True)
class Services:
    """Everything that routes use. `now_ms` is the wall clock, `monotonic_s` the one for rates."""

    database: Database
    vault: SecretVault
    log: "Log"
    ingest: "Ingest"
    store: "TelemetryStore"
    projector: "Projector"
    metrics: "Metrics"
    rates: RateLimits
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    batches_waiting_max: int
    retry_after_s: int
    # One batch at a time: the database has one writer, and waiting here costs no thread.
    ingest_turn: asyncio.Lock = field(default_factory=asyncio.Lock)


def services_of(request: Request) -> Services:
    """The services of the application that serves `request`."""
    services = request.app.state.services
    if not isinstance(services, Services):
        raise TypeError("the application was made without services")
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
