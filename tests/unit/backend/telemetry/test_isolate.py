"""Halving requests: every good point is sent, in order, and every bad one is named."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.telemetry.http_errors import RequestRefused
from surge_backend.telemetry.isolate import write_isolating
from surge_backend.telemetry.points import Point
from surge_backend.telemetry.store import StoreUnavailable


def numbered(count: int) -> list[Point]:
    return [
        Point("dabcdefghijklmno2", "n", "", 1_700_000_000_000_000_000 + i, float(i)) for i in range(count)
    ]


class Server:
    """Takes a request only if all of it is good, as InfluxDB does with a line that it can't read."""

    def __init__(self, bad: set[int], *, tells_dropped: bool = False) -> None:
        self.bad, self.tells_dropped = bad, tells_dropped
        self.stored: list[Point] = []
        self.requests = 0

    async def send(self, points: Sequence[Point]) -> None:
        self.requests += 1
        dropped = [point for point in points if point.value in self.bad]
        if dropped:
            raise RequestRefused("bad", len(dropped) if self.tells_dropped else None)
        self.stored += points


@given(st.integers(0, 60), st.sets(st.integers(0, 59), max_size=8), st.integers(1, 70), st.booleans())
async def test_good_points_are_stored_in_order_and_bad_ones_named(
    count: int, bad: set[int], per_request: int, tells_dropped: bool
) -> None:
    server, points = Server(bad, tells_dropped=tells_dropped), numbered(count)
    rejected = await write_isolating(points, per_request, server.send)
    assert server.stored == [point for point in points if point.value not in bad]
    assert [item.point for item in rejected] == [point for point in points if point.value in bad]
    assert all(item.reason == "bad" for item in rejected)


async def test_one_bad_point_costs_few_requests() -> None:
    server = Server({700})
    await write_isolating(numbered(1024), 1024, server.send)
    assert server.requests <= 2 * 10 + 1


async def test_a_request_of_bad_points_only_is_not_halved_when_the_server_says_so() -> None:
    server = Server(set(range(100)), tells_dropped=True)
    assert len(await write_isolating(numbered(100), 1000, server.send)) == 100
    assert server.requests == 1


async def test_a_server_that_goes_away_ends_it() -> None:
    async def send(points: Sequence[Point]) -> None:
        raise StoreUnavailable("gone", "wait")

    with pytest.raises(StoreUnavailable):
        await write_isolating(numbered(3), 1, send)
