"""10,000 reports through the whole device in the heap of a small board: no MemoryError, no growth."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from device_process import DeviceProcess
from small_gateway import SmallGateway

REPORTS = 10_000
STEP = 1_000
# What differs between two looks without growing: a waiting timer, a line of the log, the length of a number.
HEAP_NOISE_BYTES = 1024
LARGEST_BLOCK_MIN = 16 * 1024  # of one piece, at any time; the longest report takes a quarter of it


@pytest.mark.slow
def test_ten_thousand_reports_leave_the_heap_as_it_was(
    gateway: SmallGateway, data: Path, start: Callable[..., DeviceProcess]
) -> None:
    settings = data / "settings.json"
    # status lines would fill the log's ring of last lines during the test, which looks like growth
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "status_interval_s": 86400}))
    gateway.acking = True
    device = start(data, str(REPORTS), str(STEP), script=Path(__file__).with_name("soak.py"))
    assert device.ended() == 0, device.seen
    looks = [json.loads(line[5:]) for line in device.seen if line.startswith("soak ")]
    print("\n".join(map(str, looks)))
    assert len(looks) == REPORTS // STEP
    last = looks[-1]
    assert last["acked"] == last["reports"] >= REPORTS
    for counter in ("task_restarts", "handler_faults", "sensor_errors", "dropped", "damaged"):
        assert last[counter] == 0, (counter, last)
    free = [look["free"] for look in looks]
    assert min(free) >= free[0] - HEAP_NOISE_BYTES, free
    assert min(look["largest"] for look in looks) >= LARGEST_BLOCK_MIN, looks
    assert not [line for line in device.seen if line[:2] in ("W ", "E ")], device.seen
    assert sorted(gateway.reports) == [(1, seq) for seq in range(last["reports"])]
