"""Interval sets against plain sets; duplicates, conflicts, and what is forgotten at the bounds."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from surge_gateway.dedupe import (
    BOOTS_MAX,
    CONFLICT,
    DUPLICATE,
    FINGERPRINTS_MAX,
    NEW,
    PENDING,
    RANGES_MAX,
    BootSeqs,
    DeviceSeqs,
    SeqSet,
)
from surge_wire.limits import UINT32_MAX

seqs = st.lists(st.integers(0, 120), max_size=100)


@given(seqs)
def test_seq_set_is_a_set_of_integers(given_seqs: list[int]) -> None:
    intervals = SeqSet()
    plain = set()
    for seq in given_seqs:
        intervals.add(seq)
        plain.add(seq)
        ranges = intervals.ranges()
        assert {number for first, last in ranges for number in range(first, last + 1)} == plain
        assert all(first <= last for first, last in ranges)
        assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))
    for seq in range(121):
        assert (seq in intervals) == (seq in plain)


def test_seq_set_forgets_the_lowest_range_at_its_bound() -> None:
    intervals = SeqSet()
    for number in range(RANGES_MAX + 1):
        intervals.add(2 * number)
    assert 0 not in intervals
    assert 2 in intervals
    assert len(intervals.ranges()) == RANGES_MAX


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(["arrive", "durable", "other bytes"])), max_size=60
    )
)
def test_only_the_first_of_each_name_is_new(events: list[tuple[int, str]]) -> None:
    boot = BootSeqs(1)
    pending: set[int] = set()
    durable: set[int] = set()
    first: dict[int, int] = {}
    for seq, event in events:
        if event == "durable":
            if seq in pending:
                boot.note_durable(seq)
                pending.discard(seq)
                durable.add(seq)
            continue
        fingerprint = hash(("other", seq)) if event == "other bytes" else hash(("first", seq))
        judgement = boot.judge(seq, fingerprint)
        if seq not in pending | durable:
            assert judgement == NEW
            boot.note_pending(seq, fingerprint)
            pending.add(seq)
            first[seq] = fingerprint
        elif first[seq] != fingerprint:
            assert judgement == CONFLICT
        else:
            assert judgement == (DUPLICATE if seq in durable else PENDING)


def test_other_bytes_pass_as_a_duplicate_once_the_fingerprint_is_forgotten() -> None:
    boot = BootSeqs(1)
    for seq in range(FINGERPRINTS_MAX + 1):
        boot.note_recovered(seq, seq)
    assert boot.judge(0, 999) == DUPLICATE
    assert boot.judge(1, 999) == CONFLICT


def test_a_ring_holds_the_newest_of_any_64_seqs_in_a_row() -> None:
    boot = BootSeqs(1)
    start = UINT32_MAX - 3 * FINGERPRINTS_MAX
    for seq in range(start, UINT32_MAX + 1):
        boot.note_recovered(seq, -seq)
    for seq in range(UINT32_MAX + 1 - FINGERPRINTS_MAX, UINT32_MAX + 1):
        assert boot.judge(seq, -seq) == DUPLICATE
        assert boot.judge(seq, -seq - 1) == CONFLICT


def test_a_device_forgets_its_oldest_boot_at_the_bound() -> None:
    device = DeviceSeqs()
    for number in range(BOOTS_MAX + 1):
        device.boot(number).note_recovered(5, 0)
    assert 5 in device.boot(BOOTS_MAX).durable
    assert 5 not in device.boot(0).durable  # made anew
