"""One timer for thousands of devices.

Place in the flow: the fleet's members and links ask to be called; asyncio gets one timer however many wait.
Does not cancel: who is called looks whether it still matters. Rules kept: never early, late by a tick at
most on a loop that keeps up; after TURN_S_MAX of calls in a row the loop has its turn, so that on a machine
that doesn't keep up sockets are still read and a run still ends in time; what one callback raises ends the
fleet (``failed``) and isn't swallowed.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable

TICK_MS = 20
TURN_S_MAX = 0.02

Call = Callable[[int], None]  # gets the time in milliseconds, on the wheel's clock


class Wheel:
    """``now_ms`` is monotonic and starts near zero. ``close`` ends it."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._slots: dict[int, deque[Call]] = {}
        self._order: list[int] = []
        self._timer: asyncio.Handle | None = None
        self._timer_slot = 0
        self._failed = failed
        self._closed = False

    def now_ms(self) -> int:
        """Milliseconds since the wheel was made."""
        return int((self._loop.time() - self._start_s) * 1000)

    def at(self, due_ms: int, call: Call) -> None:
        """Have ``call`` called at ``due_ms`` or up to a tick later."""
        slot = -(-due_ms // TICK_MS)
        calls = self._slots.get(slot)
        if calls is not None:
            calls.append(call)
            return
        self._slots[slot] = deque((call,))
        heapq.heappush(self._order, slot)
        if self._timer is None or slot < self._timer_slot:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._order and not self._closed:
            self._timer_slot = self._order[0]
            self._timer = self._loop.call_at(self._start_s + self._timer_slot * TICK_MS / 1000, self._turn)

    def _turn(self) -> None:
        self._timer = None
        end_s = self._loop.time() + TURN_S_MAX
        try:
            while self._order and self._order[0] * TICK_MS <= self.now_ms() and not self._closed:
                slot = heapq.heappop(self._order)
                calls = self._slots.pop(slot)
                while calls:
                    calls.popleft()(self.now_ms())
                    if self._loop.time() > end_s:
                        self._go_on_soon(slot, calls)
                        return
        except Exception as error:  # not lost in the loop's handler: the fleet ends with it
            self._failed(error)
            return
        self._set_timer()

    def _go_on_soon(self, slot: int, left: deque[Call]) -> None:
        if left:  # before those that asked for the same slot meanwhile
            added = self._slots.get(slot)
            if added is None:
                heapq.heappush(self._order, slot)
            else:
                left.extend(added)
            self._slots[slot] = left
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._order and not self._closed:
            self._timer_slot = self._order[0]
            self._timer = self._loop.call_soon(self._turn)

    def close(self) -> None:
        """Nothing is called any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._slots.clear()
        self._order.clear()
