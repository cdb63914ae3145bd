"""Waits between attempts: doubled each time, capped, and drawn from nothing to that ("full jitter").

Place in the flow: pure; passed to whatever tries again. Rule kept: many gateways that lost the same backend
don't come back in step.
"""

from collections.abc import Callable

DOUBLINGS_MAX = 30  # far beyond any cap


class Backoff:
    """`first_ms` doubled up to `max_ms`; `jitter` gives numbers from 0 to 1."""

    def __init__(self, first_ms: int, max_ms: int, jitter: Callable[[], float]) -> None:
        self._first_ms = first_ms
        self._max_ms = max_ms
        self._jitter = jitter

    def delay_s(self, attempt: int, at_least_s: float = 0.0) -> float:
        """Seconds to wait after failed attempt number `attempt` (0 is the first)."""
        ceiling_ms = min(self._max_ms, self._first_ms << min(attempt, DOUBLINGS_MAX))
        return max(at_least_s, self._jitter() * ceiling_ms / 1000)
