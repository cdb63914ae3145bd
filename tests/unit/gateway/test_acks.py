"""Acks name only what is durable, and all of what has just become so."""

from hypothesis import given
from hypothesis import strategies as st

from surge_gateway.acks import encode_acks
from surge_gateway.dedupe import SeqSet
from surge_wire.ack import decode_ack
from surge_wire.limits import ACK_RANGES_MAX


@given(st.sets(st.integers(0, 90), min_size=1), st.data())
def test_acks_cover_all_that_was_just_stored_and_nothing_else_than_durable(
    durable: set[int], data: st.DataObject
) -> None:
    just_stored = data.draw(st.sets(st.sampled_from(sorted(durable))))
    seqs = SeqSet()
    for seq in sorted(durable):
        seqs.add(seq)
    covered = set()
    for encoded in encode_acks(7, seqs, just_stored, 123):
        ack = decode_ack(encoded)
        assert (ack.boot, ack.time_ms) == (7, 123)
        assert len(ack.ranges) <= ACK_RANGES_MAX
        covered |= {seq for first, last in ack.ranges for seq in range(first, last + 1)}
    assert covered <= durable
    assert just_stored <= covered
    assert max(durable) in covered or len(just_stored) >= ACK_RANGES_MAX


def test_nothing_durable_gives_no_ack() -> None:
    assert encode_acks(1, SeqSet(), [], 0) == []
