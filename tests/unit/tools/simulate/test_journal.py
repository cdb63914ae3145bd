"""The journal: sets of seqs, sums without what was lost, hooks, percentiles."""

from hypothesis import given, strategies

from surge_cli.simulate.journal import Journal, SeqRanges, percentile


@given(strategies.lists(strategies.integers(0, 60)))
def test_ranges_are_a_set(seqs: list[int]) -> None:
    ranges = SeqRanges()
    model: set[int] = set()
    for seq in seqs:
        assert ranges.add(seq) == (seq not in model)
        model.add(seq)
    assert list(ranges) == sorted(model)
    assert len(ranges) == len(model)
    assert all((seq in ranges) == (seq in model) for seq in range(62))


def test_what_was_lost_for_ever_counts_for_nothing() -> None:
    journal = Journal()
    heard: list[object] = []
    journal.on_sealed = lambda name, taken_ms: heard.append((name, taken_ms))
    journal.on_acknowledged = lambda name, taken_ms, acked_ms: heard.append((name, acked_ms - taken_ms))
    journal.sealed(("d", 1, 0), 3, 100, 5)
    journal.sealed(("d", 1, 1), 3, 101, 6)
    journal.lost_for_ever(("d", 1, 1), 3, 101)
    journal.acknowledged(("d", 1, 0), 5, 25)
    journal.acknowledged(("d", 1, 0), 5, 99)  # once is enough
    journal.acknowledged(("d", 9, 4))  # of nobody's own making: no latency
    assert journal.sealed_names("d") == {(1, 0)}
    assert journal.sealed_names("other") == set()
    own = journal.sealings["d"]
    assert (own.reports, own.samples, own.bytes) == (2, 3, 100)
    assert list(journal.acknowledged_names()) == [("d", 1, 0), ("d", 9, 4)]
    assert journal.counts == {
        "sealed": 2,
        "lost_for_ever": 1,
        "acknowledged": 1,
        "acknowledged_to_others": 1,
    }
    assert heard == [(("d", 1, 0), 5), (("d", 1, 1), 6), (("d", 1, 0), 20)]
    assert list(journal.latencies_ms) == [20.0]


def test_percentiles() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(number) for number in range(100)], 0.99) == 99.0
