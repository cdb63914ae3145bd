"""What a task waits on: until somebody rings, or for so long.

Between the app's tasks and asyncio, so that tests can let time stand still. A ring while nobody waits is kept
for the next wait; several count as one.
"""

import asyncio


class Alarm:
    def __init__(self):
        self._event = asyncio.Event()

    def ring(self):
        self._event.set()

    async def wait_ms(self, duration_ms):
        """Returns when it was rung, or after ``duration_ms``; other tasks get their turn in any case."""
        if duration_ms > 0 and not self._event.is_set():
            try:
                await asyncio.wait_for_ms(self._event.wait(), duration_ms)
            except asyncio.TimeoutError:
                return False
        else:
            await asyncio.sleep_ms(0)
        rung = self._event.is_set()
        self._event.clear()
        return rung
