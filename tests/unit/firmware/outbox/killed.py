"""Runs on MicroPython until killed: stores, seals, sends and acks readings, and says so on stdout once it
is so.

    present N...          what the outbox held at start
    stored N
    sent N BOOT SEQ
    acked N
"""

import sys

from surge_device.outbox import open_outbox
from surge_device.outbox_limits import Limits

boot = int(sys.argv[2])
reading = int(sys.argv[3])
outbox = open_outbox(sys.argv[1], None, Limits(8 * 8400, 8400, 500, 4))
held = [int(envelope[:8]) for _, _, envelope in outbox.unacked()]
index = outbox._pending
for place in range(index.count):
    number, segment, offset, _ = index.row(place)
    held.append(int(outbox._log.read(segment, offset, number)[:8]))
print("present", *held)
seq = 0
while True:
    outbox.put_pending(b"%08d" % reading + bytes(reading % 300))
    print("stored", reading)
    reading += 1
    while outbox.window_open and outbox.next_pending():
        number, body = outbox.next_pending()
        outbox.add_sealed(boot, seq, body, number)
        seq += 1
    if not reading % 3:
        for sent_boot, sent_seq, envelope in outbox.unacked():
            print("sent", int(envelope[:8]), sent_boot, sent_seq)
        for sent_boot, sent_seq, envelope in outbox.unacked():
            print("acked", int(envelope[:8]))  # the gateway has it, before the outbox hears of it
            outbox.ack(sent_boot, [[sent_seq, sent_seq]])
