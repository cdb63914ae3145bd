"""Runs on MicroPython: 10,000 readings through the outbox, with the heap looked at after each thousand."""

import gc
import sys

from surge_device.outbox import open_outbox

outbox = open_outbox(sys.argv[1])
body = b"r" * 220
envelope = b"e" * 300
seq = 0
free = []
for count in range(10000):
    if count % 50 < 10:  # the link is down: readings wait
        outbox.put_pending(body)
    else:
        outbox.add_sealed(1, seq, envelope)
        seq += 1
        while outbox.window_open and outbox.next_pending():
            outbox.add_sealed(1, seq, envelope, outbox.next_pending()[0])
            seq += 1
    if outbox.in_flight > 8:
        outbox.ack(1, [[0, max([sent for _, sent, _ in outbox.unacked()])]])
    if count % 1000 == 999:
        gc.collect()
        free.append(gc.mem_free())
outbox.close()
print("soak", seq, outbox.dropped, outbox.damaged, outbox.syncs, *free)
