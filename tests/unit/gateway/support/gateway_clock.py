"""A clock that tests set. Sleeping and waiting let other tasks run and move it; nothing really waits."""

import asyncio
from collections.abc import Callable


class FakeClock:
    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 1000.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._monotonic_s += seconds
        self._now_ms += round(seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        await asyncio.sleep(0)
        if event.is_set() or seconds is None:
            await event.wait()
            return True
        self.advance(seconds)
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - the tasks under test only take turns, there is no event to wait for
        await asyncio.sleep(0)
