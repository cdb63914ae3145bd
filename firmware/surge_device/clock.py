"""The device's two clocks: time since start, which always works, and the time of day, once somebody told
it.

Pure: the ticks come in as functions (``time.ticks_ms`` and ``time.ticks_diff`` on a board). Does not ask
any server; ``surge_device.sntp`` and the gateway's acks bring the time in through ``set_unix_ms``. Rules:
uptime never goes back and outlives the wrap of the ticks (every 12.4 days on most boards), provided it is
read at least once in half a wrap, which the supervisor does. The time of day is None until known, never a
guess, and is only a claim to everybody else. An ack's time doesn't move a clock that NTP set within a day.
"""

SANE_MIN_MS = 1704067200000  # 2024-01-01: a clock before this was never set
SANE_MAX_MS = 4102444800000  # 2100-01-01
SLEW_MAX_MS = 2000  # a difference up to this is taken in by halves, so that jitter of one ack moves little
NTP_TRUST_MS = 24 * 3600 * 1000

SOURCE_NTP = "ntp"
SOURCE_ACK = "ack"


class Clock:
    def __init__(self, ticks_ms, ticks_diff):
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._last_ticks = ticks_ms()
        self._uptime_ms = 0
        self._offset_ms = None  # time of day minus uptime
        self._ntp_at_ms = None
        self.source = None
        self.steps = 0  # how often the time of day jumped, the first setting not counted
        self.refused = 0  # times outside the sane window

    def uptime_ms(self):
        """Milliseconds since this object was made; monotonic."""
        ticks = self._ticks_ms()
        elapsed = self._ticks_diff(ticks, self._last_ticks)
        if elapsed > 0:
            self._uptime_ms += elapsed
            self._last_ticks = ticks
        return self._uptime_ms

    def now_ms(self):
        """Milliseconds since 1970, or None while nobody told us."""
        if self._offset_ms is None:
            return None
        return self.uptime_ms() + self._offset_ms

    def set_unix_ms(self, unix_ms, source):
        """Takes a time of day from ``source``; returns whether it was used."""
        if not isinstance(unix_ms, int) or not SANE_MIN_MS <= unix_ms <= SANE_MAX_MS:
            self.refused += 1
            return False
        uptime_ms = self.uptime_ms()
        ntp_at_ms = self._ntp_at_ms
        if source != SOURCE_NTP and ntp_at_ms is not None and uptime_ms - ntp_at_ms < NTP_TRUST_MS:
            return False
        offset_ms = unix_ms - uptime_ms
        if self._offset_ms is None:
            self._offset_ms = offset_ms
        else:
            difference_ms = offset_ms - self._offset_ms
            if source != SOURCE_NTP and -SLEW_MAX_MS <= difference_ms <= SLEW_MAX_MS:
                self._offset_ms += difference_ms // 2
            else:
                self._offset_ms = offset_ms
                self.steps += 1 if not -SLEW_MAX_MS <= difference_ms <= SLEW_MAX_MS else 0
        if source == SOURCE_NTP:
            self._ntp_at_ms = uptime_ms
        self.source = source
        return True
