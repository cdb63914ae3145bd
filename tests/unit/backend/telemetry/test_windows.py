"""Windows cut here agree with their definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.telemetry.points import NS_PER_MS
from surge_backend.telemetry.store import AGGREGATES, Aggregate, Sample
from surge_backend.telemetry.windows import window_samples

DEVICE = "dabcdefghijklmno2"
samples = st.lists(
    st.tuples(
        st.integers(0, 10_000), st.floats(-1e9, 1e9) | st.booleans() | st.just("text"), st.sampled_from("ab")
    ),
    max_size=40,
).map(
    lambda rows: [
        Sample(DEVICE, name, "s", at * 1000, value, 1) for at, value, name in sorted(rows, key=lambda r: r[0])
    ]
)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@given(some=samples, window_ms=st.integers(1, 5))
def test_every_number_is_in_its_own_window(aggregate: Aggregate, some: list[Sample], window_ms: int) -> None:
    window_ns = window_ms * NS_PER_MS
    found = window_samples(some, window_ms, aggregate)
    assert [(s.time_ns, s.name) for s in found] == sorted(
        {(s.time_ns // window_ns * window_ns, s.name) for s in some if type(s.value) is float}
    )
    for sample in found:
        values = [
            s.value
            for s in some
            if type(s.value) is float
            and s.name == sample.name
            and 0 <= s.time_ns - sample.time_ns < window_ns
        ]
        wanted = {
            "mean": math.fsum(values) / len(values),
            "min": min(values),
            "max": max(values),
            "count": len(values),
            "last": values[-1],
        }
        assert sample.value == wanted[aggregate]
        assert (sample.device_id, sample.unit, sample.flags) == (DEVICE, "s", 0)
