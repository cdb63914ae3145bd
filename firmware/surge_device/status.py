"""Says in the log how the device is: every status interval, and once at the end.

Reads all the others and changes nothing. The lines' form is read by ``surge demo``: one event, then
``key=value`` pairs.
"""

import asyncio
import gc

WAKE_MS = 1000


class Status:
    def __init__(self, interval_ms, sealer, courier, outbox, client, log):
        self._interval_ms = interval_ms
        self._sealer = sealer
        self._courier = courier
        self._outbox = outbox
        self._client = client
        self._log = log

    async def run(self, check_in):
        while True:
            for _ in range(self._interval_ms // WAKE_MS):
                check_in()
                await asyncio.sleep_ms(WAKE_MS)
            self.tell()

    def tell(self):
        """One line. ``made`` counts this boot's reports, ``acked`` also those of earlier boots."""
        gc.collect()
        self._log.info(
            "status",
            "boot=%d" % self._sealer.boot,
            "made=%d" % self._sealer.seq,
            "acked=%d" % self._courier.acked,
            "waiting=%d" % len(self._outbox),
            "dropped=%d" % self._outbox.dropped,
            "linked=%d" % self._client.up.is_set(),
            "heap_free=%d" % gc.mem_free(),
        )

    def tell_end(self):
        """The last status, and the seqs of this boot that no ack covers: they go out after the next start."""
        self.tell()
        unacked = [str(seq) for boot, seq, _ in self._outbox.unacked() if boot == self._sealer.boot]
        self._log.info("end", "unacked=" + ",".join(unacked))
