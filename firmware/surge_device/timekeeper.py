"""Keeps the clock right by NTP, where the settings name a server.

Between ``sntp``, which asks once, and the clock. Without it the gateway's acks bring the time. Rule: a server
that doesn't answer is asked again after a minute, and nothing else waits for it.
"""

from surge_device.clock import SOURCE_NTP
from surge_device.errors import NetworkError
from surge_device.sntp import query

NTP_EVERY_MS = 6 * 3600 * 1000
NTP_RETRY_MS = 60000
WAKE_MS = 1000


class Timekeeper:
    def __init__(self, host, clock, board, log, sleep_ms, query=query):
        self._host = host
        self._clock = clock
        self._board = board
        self._log = log
        self._sleep_ms = sleep_ms
        self._query = query

    async def run(self, check_in):
        next_ms = 0
        while True:
            check_in()
            if self._clock.uptime_ms() >= next_ms and self._board.connected():
                try:
                    unix_ms = await self._query(self._host, self._sleep_ms)
                    self._clock.set_unix_ms(unix_ms, SOURCE_NTP)
                    next_ms = self._clock.uptime_ms() + NTP_EVERY_MS
                except NetworkError as error:
                    self._log.warning("ntp", error)
                    next_ms = self._clock.uptime_ms() + NTP_RETRY_MS
            await self._sleep_ms(WAKE_MS)
