"""The clock port: wall time for records, monotonic time for intervals, and waiting.

Place in the flow: passed to whatever asks the time, so that tests decide what time it is. Rule kept: wall
time is only ever written down or compared with wall time; intervals and limits use the monotonic clock.
"""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Time and waiting."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that only ever rise."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        """Wait until `event` is set (True) or `seconds` are over (False); None waits for ever."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True
