"""What the routes work with: everything that `app` has opened, in one place.

Place in the flow: built by `app` (or a test), kept on the application, taken by routes as a dependency. Opens
and closes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from surge_backend.api.rates import Rate, TokenBuckets
from surge_backend.db.engine import Database
from surge_backend.keys import SecretVault

if TYPE_CHECKING:  # at run time these import this module
    from surge_backend.api.counts import CountsCache
    from surge_backend.api.intake import Intake
    from surge_backend.api.watch import Watched
    from surge_backend.log import MerkleLog
    from surge_backend.metrics import Metrics
    from surge_backend.projection import Keeper
    from surge_backend.telemetry.projector import Projector
    from surge_backend.telemetry.store import StoreHealth, TelemetryStore


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
    log: "MerkleLog"
    intake: "Intake"
    store: "TelemetryStore"
    projector: "Projector"
    keeper: "Keeper"
    metrics: "Metrics"
    rates: RateLimits
    counts: "CountsCache"
    telemetry_points: "Watched[int]"
    telemetry_health: "Watched[StoreHealth]"
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    retry_after_s: int


def services_of(request: Request) -> Services:
    """The services of the application that serves `request`."""
    services = request.app.state.services
    if not isinstance(services, Services):
        raise TypeError("the application was made without services")
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
