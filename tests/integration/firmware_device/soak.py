"""The whole device as fast as acks allow, run by MicroPython: ``soak.py DATA_DIR REPORTS STEP``.

The same ``App`` as the board's main.py starts; only the interval is taken out of its way: a further task asks
for a reading whenever the window has room. Every STEP reports it waits for the last ack and prints ``soak``
and a JSON object with the heap's state after a collection; with the last one it ends.
"""

import asyncio
import gc
import json
import sys

gc.threshold(8192)  # as in main.py

from boards.linux.board import Board  # noqa: E402
from surge_device.app import App  # noqa: E402


async def main():
    data_dir, reports, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    app = App(Board, data_dir)
    app.sampler.set_interval(86400000)
    room = app.settings.outbox_limits.in_flight_max
    running = asyncio.create_task(app.run())
    while app.sealer.seq < reports:
        target = app.sealer.seq + step
        while app.sealer.seq < target:
            if app.outbox.in_flight < room and not app.outbox.pending:
                app.sampler.sample_now()
            await asyncio.sleep_ms(1)
        while app.courier.acked < app.sealer.seq:  # so that each look finds the same state
            await asyncio.sleep_ms(1)
        tell(app)
    running.cancel()


def tell(app):
    gc.collect()
    said = {
        "reports": app.sealer.seq,
        "acked": app.courier.acked,
        "free": gc.mem_free(),
        "largest": largest_block(),
        "uptime_ms": app.clock.uptime_ms(),
        "task_restarts": app.supervisor.restarts,
        "handler_faults": app.client.handler_faults,
        "sensor_errors": app.meter.sensor_errors,
        "dropped": app.outbox.dropped,
        "damaged": app.outbox.damaged,
        "sent": app.courier.sent,
        "samples": app.meter.samples,
        "syncs": app.outbox.syncs,
    }
    print("soak", json.dumps(said))


def largest_block():
    """Bytes that one object may have, to within 1 KiB."""
    low, high = 0, gc.mem_free()
    while high - low > 1024:
        middle = (low + high) // 2
        try:
            bytearray(middle)
            low = middle
        except MemoryError:
            high = middle
        gc.collect()
    return low


asyncio.run(main())
