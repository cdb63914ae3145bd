"""Keeps the firmware's tasks alive: a fixed list, a watchdog fed only while all of them are well, a reset
as last resort.

The app hands over ``Task``s and awaits ``run``. A task is a coroutine function that gets ``check_in`` and
calls it at least every ``deadline_ms``. Doesn't know what the tasks do. Rules:
- A task that ends or raises is started again after a pause that doubles up to ``PAUSE_MAX_MS``; more than
  ``RESTARTS_MAX`` times within ``FORGET_MS`` resets the board.
- A task that misses its deadline resets the board: by the watchdog where there is one, by ``board.reset``
  in any case.
- Why is written to ``last_crash.txt`` before the reset, in bounded length, so that the next boot can report
  it.
"""

import asyncio
import io
import sys

RESTARTS_MAX = 5
FORGET_MS = 600000
PAUSE_MIN_MS = 500
PAUSE_MAX_MS = 30000
LOOK_MS = 1000  # between two looks at the tasks; far below every watchdog's period
REASON_MAX = 200  # characters
CRASH_FILE = "last_crash.txt"


class Task:
    def __init__(self, name, start, deadline_ms):
        """``start(check_in)`` gives the coroutine, each time anew."""
        self.name = name
        self.start = start
        self.deadline_ms = deadline_ms
        self.seen_ms = 0
        self.running = False
        self.restarts = 0
        self.crashed_ms = 0


class Supervisor:
    def __init__(self, tasks, board, clock, storage, log, sleep_ms):
        self._tasks = tasks
        self._board = board
        self._clock = clock
        self._storage = storage
        self._log = log
        self._sleep_ms = sleep_ms
        self.last_crash = self._take_last_crash()
        self.restarts = 0

    async def run(self):
        """Runs all tasks until one is beyond help; then resets the board and, where that returns, ends."""
        self._board.start_watchdog()
        running = [asyncio.create_task(self._keep(task)) for task in self._tasks]
        for task in self._tasks:
            task.seen_ms = self._clock.uptime_ms()
        try:
            while True:
                reason = self._what_is_wrong()
                if reason:
                    break
                self._board.feed_watchdog()
                await self._sleep_ms(LOOK_MS)
        finally:
            for task in running:
                task.cancel()
        self._log.error("reset", reason)
        self._write_crash(reason)
        self._board.reset()

    def _what_is_wrong(self):
        now_ms = self._clock.uptime_ms()
        for task in self._tasks:
            if task.restarts > RESTARTS_MAX:
                return "%s failed %d times; last: %s" % (task.name, task.restarts, self.last_crash)
            if task.running and now_ms - task.seen_ms > task.deadline_ms:
                return "%s gave no sign of life for %d ms" % (task.name, now_ms - task.seen_ms)
        return None

    async def _keep(self, task):
        """Starts a task again and again."""

        def check_in():
            task.seen_ms = self._clock.uptime_ms()

        while True:
            check_in()
            task.running = True
            try:
                await task.start(check_in)
                reason = "ended"
            except Exception as error:  # the one place that may catch all: it records, restarts and gives up
                reason = describe(error)
            task.running = False
            self._count(task, reason)
            pause_ms = min(PAUSE_MIN_MS << min(task.restarts - 1, 16), PAUSE_MAX_MS)
            await self._sleep_ms(pause_ms)

    def _count(self, task, reason):
        now_ms = self._clock.uptime_ms()
        if now_ms - task.crashed_ms > FORGET_MS:
            task.restarts = 0
        task.crashed_ms = now_ms
        task.restarts += 1
        self.restarts += 1
        self.last_crash = (task.name + ": " + reason)[:REASON_MAX]
        self._log.error("task-crashed", self.last_crash)

    def _write_crash(self, reason):
        try:
            self._storage.write_durably(CRASH_FILE, reason[:REASON_MAX].encode())
        except OSError as error:
            self._log.error("crash-not-kept", error.args[0])

    def _take_last_crash(self):
        """Why the board was reset last, once; None after a start for another reason."""
        data = self._storage.read(CRASH_FILE, 4 * REASON_MAX)
        if data is None:
            return None
        self._storage.remove(CRASH_FILE)
        return data.decode()


def describe(error):
    """The error's type, text and last place, in bounded length."""
    text = "%s: %s" % (type(error).__name__, error)
    if hasattr(sys, "print_exception"):  # MicroPython
        buffer = io.StringIO()
        sys.print_exception(error, buffer)
        places = [line.strip() for line in buffer.getvalue().split("\n") if line.startswith("  File")]
        if places:
            text += " (" + places[-1] + ")"
    return text[:REASON_MAX]
