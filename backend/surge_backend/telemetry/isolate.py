"""Finds the points that a server refuses, and stores all others.

Place in the flow: between a store's `write` and the requests that it sends. A server answers 400 or 413 for a
whole request; this halves the request until each point left alone is stored or refused.

Does not: judge points. Costs about 2 log2(n) requests for each refused point.

Rules it keeps: points are sent in the order given, so that the newest write under a key wins;
StoreUnavailable passes through, and the caller's retry repeats all, which is harmless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from surge_backend.telemetry.http_errors import RequestRefused
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.store import RejectedPoint


async def write_isolating(
    points: Sequence[Point], points_per_request_max: int, send: Callable[[Sequence[Point]], Awaitable[None]]
) -> list[RejectedPoint]:
    """Sends all points; returns those refused, with the server's reasons. ``send`` raises RequestRefused for
    a request."""
    rejected: list[RejectedPoint] = []
    waiting = [
        points[start : start + points_per_request_max]
        for start in range(0, len(points), points_per_request_max)
    ]
    waiting.reverse()  # the last is taken first
    while waiting:
        part = waiting.pop()
        try:
            await send(part)
        except RequestRefused as error:
            if len(part) == 1 or error.dropped == len(part):
                rejected.extend(RejectedPoint(point, error.reason) for point in part)
            else:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
    return rejected
