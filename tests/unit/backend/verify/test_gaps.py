"""A boot's gaps say exactly which numbers were accepted, in whatever order they came, and stay bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.errors import InvariantViolated
from surge_backend.verify.gaps import decode_gaps, encode_gaps, in_gap, without
from surge_backend.verify.history import BootHistory, has, take


@given(numbers=st.lists(st.integers(0, 60), unique=True), gaps_max=st.integers(1, 8))
def test_a_boot_has_what_it_took_and_nothing_else(numbers: list[int], gaps_max: int):
    boot = BootHistory(-1, None, 0, 0)
    taken: set[int] = set()
    for seq in numbers:
        if seq < boot.gaps_from:
            continue  # judging refuses it
        take(boot, seq, gaps_max)
        taken.add(seq)
        assert [s for s in range(boot.gaps_from, 70) if has(boot, s)] == sorted(
            s for s in taken if s >= boot.gaps_from
        )
        assert len(boot.gaps) <= gaps_max
        assert all(before[1] + 1 < after[0] for before, after in zip(boot.gaps, boot.gaps[1:], strict=False))
        assert decode_gaps(encode_gaps(boot.gaps)) == boot.gaps


def test_nothing_is_taken_out_of_no_gap():
    for gaps in ((), ((3, 5),), ((3, 5), (9, 9))):
        with pytest.raises(InvariantViolated):
            without(gaps, 7)
    assert not in_gap((), 0)
    assert encode_gaps(()) is None


def test_the_whole_range_of_numbers_is_stored():
    top = (1 << 32) - 1
    assert decode_gaps(encode_gaps(((0, 1), (top, top)))) == ((0, 1), (top, top))
    assert without(((0, top),), top) == ((0, top - 1),)
