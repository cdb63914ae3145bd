"""The collector is tuned for long-lived memory, and still finds cycles."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from surge_backend.collector import YOUNG_MAX, tune_collector


@pytest.fixture
def restored() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


class Node:
    """Something that can be in a cycle."""

    def __init__(self) -> None:
        self.other: object = self


@pytest.mark.usefixtures("restored")
def test_what_is_there_is_left_alone_and_cycles_are_still_found():
    tune_collector()
    assert gc.get_freeze_count() > 0
    cycle = weakref.ref(Node())
    assert cycle() is not None
    kept = [[] for _ in range(YOUNG_MAX + 1)]
    assert cycle() is None
    assert len(kept) > YOUNG_MAX
