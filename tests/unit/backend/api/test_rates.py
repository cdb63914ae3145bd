"""Token buckets: burst, refill, one client can't spend another's, and the table is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from surge_backend.api.rates import Rate, TokenBuckets, client_key


def test_burst_then_rate() -> None:
    buckets = TokenBuckets(Rate(burst=3, per_second=0.5))
    assert [buckets.take("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 0.0) == 2  # one token takes two seconds
    assert buckets.take("a", 1.0) == 1
    assert buckets.take("a", 2.0) == 0
    assert buckets.refused == 2


def test_a_client_has_its_own_bucket() -> None:
    buckets = TokenBuckets(Rate(burst=1, per_second=1.0))
    assert buckets.take("a", 0.0) == 0
    assert buckets.take("a", 0.0) > 0
    assert buckets.take("b", 0.0) == 0


def test_waiting_takes_nothing() -> None:
    buckets = TokenBuckets(Rate(burst=1, per_second=1.0))
    assert [buckets.wait_s("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 0.0) == 0
    assert buckets.wait_s("a", 0.0) == 1


def test_the_table_is_bounded_and_forgets_the_longest_idle() -> None:
    buckets = TokenBuckets(Rate(burst=1, per_second=0.001), clients_max=3)
    for client in ("a", "b", "c"):
        assert buckets.take(client, 0.0) == 0
    assert buckets.take("a", 1.0) > 0  # used last now
    assert buckets.take("d", 1.0) == 0  # pushes b out
    assert len(buckets) == 3
    assert buckets.take("a", 1.0) > 0
    assert buckets.take("b", 1.0) == 0


def test_a_clock_that_steps_back_gives_nothing_and_breaks_nothing() -> None:
    buckets = TokenBuckets(Rate(burst=1, per_second=1.0))
    assert buckets.take("a", 100.0) == 0
    assert buckets.take("a", 50.0) == 1


@given(st.lists(st.floats(min_value=0, max_value=10, allow_nan=False), max_size=60))
def test_never_more_than_burst_plus_rate(steps: list[float]) -> None:
    rate = Rate(burst=5, per_second=2.0)
    buckets = TokenBuckets(rate)
    now_s = 0.0
    allowed = 0
    for step in steps:
        now_s += step
        allowed += buckets.take("a", now_s) == 0
        assert allowed <= rate.burst + rate.per_second * now_s + 1e-6


def test_client_keys() -> None:
    assert client_key("127.0.0.1") == "127.0.0.1"
    assert client_key("2001:db8:1:2:3:4:5:6") == client_key("2001:db8:1:2::9")
    assert client_key("2001:db8:1:2::1") != client_key("2001:db8:1:3::1")
    assert client_key("::ffff:10.0.0.1") == "10.0.0.1"
    assert len(client_key("x" * 1000)) == 64
