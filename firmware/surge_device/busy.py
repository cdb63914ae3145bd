"""How busy a microcontroller is, on boards whose system doesn't count it: asks the event loop at random
moments.

A task sleeps for a time that varies and looks whether it was woken late. Late means that some other task
held the processor at that moment, so the share of late wakings is the share of time that the loop was busy:
a sample, with an error of about 50 % / sqrt(probes) (3.5 points for 200 probes in 10 s), blind to work
shorter than ``LATE_MS`` and to interrupts and other cores. It is the busy fraction of MicroPython's event
loop, not of the chip.
"""

LATE_MS = 2  # a tick of rounding is not lateness
PROBE_MIN_MS = 30
PROBE_SPREAD_MS = 40


class BusyProbe:
    def __init__(self, ticks_ms, ticks_diff):
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._spread = 0
        self._probes = 0
        self._late = 0

    async def run(self, sleep_ms, check_in):
        """Probes for ever; ``check_in`` is the supervisor's."""
        while True:
            # Steps of 17 modulo 41 visit all waiting times in an order that no periodic task shares.
            self._spread = (self._spread + 17) % (PROBE_SPREAD_MS + 1)
            wanted_ms = PROBE_MIN_MS + self._spread
            started = self._ticks_ms()
            await sleep_ms(wanted_ms)
            self._probes += 1
            if self._ticks_diff(self._ticks_ms(), started) - wanted_ms >= LATE_MS:
                self._late += 1
            check_in()

    def take(self):
        """Percent busy since the last call, or None when no probe was made."""
        probes, late = self._probes, self._late
        self._probes = self._late = 0
        return round(100 * late / probes, 1) if probes else None
