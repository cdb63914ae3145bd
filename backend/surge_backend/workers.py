"""Several processes on one listening socket: started, watched, started again when they end, and stopped.

Place in the flow: `app` runs a `Supervisor` in a process that has opened nothing but the socket; each worker
is a fork of it and runs what one backend alone would run.

Does not: serve, know what a worker does, or notice one that hangs: a worker counts as well while it lives.

Rules it keeps: one line on stdout, once every worker answers; a worker that ends is started again after a
pause that grows while it keeps ending (RESTART_FIRST_S to RESTART_MAX_S), counted and logged; SIGTERM and
SIGINT stop all, and what hasn't ended after `grace_s` is killed; a worker whose supervisor is gone, however
it went, stops by itself.
"""

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

RESTART_FIRST_S: Final = 0.2
RESTART_MAX_S: Final = 30.0
LASTED_S: Final = 60.0  # a worker that ran so long starts with the first pause again
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

_log = structlog.get_logger("surge.backend.workers")


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker is told: its number, from 0, where to say that it answers, where to see that nobody
    watches it any more."""

    number: int
    ready: int  # a descriptor that `say_ready` writes one byte to
    orphaned: int  # a descriptor that has an end when the supervisor has

    def say_ready(self) -> None:
        """Tell the supervisor that this worker answers; where it is gone, `orphaned` says so."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.ready, b"1")


@dataclass
class _Slot:
    """One worker's place, whichever process fills it."""

    number: int
    pid: int = 0
    ready: int = -1
    answers: bool = False
    started_s: float = 0.0
    pause_s: float = RESTART_FIRST_S
    due_s: float = 0.0


@dataclass
class Supervisor:
    """`run` in the main thread, with no other thread about: it forks. `work(place)` gives an exit code."""

    count: int
    work: Callable[[WorkerPlace], int]
    on_all_ready: Callable[[], None]
    on_ended: Callable[[int], None]  # is told the number of a worker that ended by itself
    grace_s: float
    _slots: list[_Slot] = field(default_factory=list)
    _stopping: bool = False
    _announced: bool = False

    def run(self) -> int:
        """Until SIGTERM or SIGINT."""
        self._alive = os.pipe()
        wakeup = os.pipe()
        for descriptor in wakeup:
            os.set_blocking(descriptor, False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        signal.set_wakeup_fd(wakeup[1], warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeup[0], selectors.EVENT_READ)
        self._slots = [_Slot(number) for number in range(self.count)]
        try:
            while not self._stopping:
                self._start_due()
                self._wait(wakeup[0], self._until_due_s())
                self._reap()
            self._stop_all(wakeup[0])
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            for descriptor in (*self._alive, *wakeup, *(slot.ready for slot in self._slots)):
                if descriptor >= 0:
                    os.close(descriptor)
        return 0

    # --- starting -----------------------------------------------------------------------------------------

    def _start_due(self) -> None:
        for slot in self._slots:
            if not slot.pid and time.monotonic() >= slot.due_s:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        reads, writes = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reads)
            os.close(self._alive[1])  # or this worker would keep itself from being an orphan
            self._become(WorkerPlace(slot.number, writes, self._alive[0]))
        os.close(writes)
        slot.pid, slot.ready, slot.answers, slot.started_s = pid, reads, False, time.monotonic()
        self._selector.register(reads, selectors.EVENT_READ, slot)
        _log.info("worker_started", worker=slot.number, pid=pid)

    def _become(self, place: WorkerPlace) -> NoReturn:
        """The rest of a worker's life."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            code = self.work(place)
        except BaseException as error:
            _log.error("worker_failed", worker=place.number, error=f"{type(error).__name__}: {error}")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # what else is on this stack is the supervisor's

    # --- watching -----------------------------------------------------------------------------------------

    def _until_due_s(self) -> float | None:
        pauses = [slot.due_s - time.monotonic() for slot in self._slots if not slot.pid]
        return max(0.0, min(pauses)) if pauses else None

    def _wait(self, wakeup: int, timeout_s: float | None) -> None:
        """Until a signal, a worker's word, or so long."""
        for key, _ in self._selector.select(timeout_s):
            if key.fd == wakeup:
                numbers = os.read(wakeup, 4096)
                self._stopping |= bool({signal.SIGTERM, signal.SIGINT} & set(numbers))
            else:
                self._heard(key.data)

    def _heard(self, slot: _Slot) -> None:
        slot.answers = bool(os.read(slot.ready, 1))  # nothing: it ended
        self._forget_pipe(slot)
        if not self._announced and all(other.answers for other in self._slots):
            self._announced = True
            self.on_all_ready()

    def _forget_pipe(self, slot: _Slot) -> None:
        if slot.ready >= 0:
            self._selector.unregister(slot.ready)
            os.close(slot.ready)
            slot.ready = -1

    def _reap(self) -> None:
        for slot in self._slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._ended(slot, status)

    def _ended(self, slot: _Slot, status: int) -> None:
        self._forget_pipe(slot)
        ran_s = time.monotonic() - slot.started_s
        pid, slot.pid, slot.answers = slot.pid, 0, False
        if self._stopping:
            return
        if ran_s >= LASTED_S:
            slot.pause_s = RESTART_FIRST_S
        slot.due_s = time.monotonic() + slot.pause_s
        _log.error(
            "worker_ended",
            worker=slot.number,
            pid=pid,
            exit_code=os.waitstatus_to_exitcode(status),  # below 0: the signal
            restart_in_s=slot.pause_s,
        )
        slot.pause_s = min(RESTART_MAX_S, 2 * slot.pause_s)
        self.on_ended(slot.number)

    # --- stopping -----------------------------------------------------------------------------------------

    def _stop_all(self, wakeup: int) -> None:
        _log.info("stopping")
        self._signal_all(signal.SIGTERM)
        end_s = time.monotonic() + self.grace_s
        self._reap()
        while any(slot.pid for slot in self._slots):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                _log.warning("workers_killed", after_s=self.grace_s)
                self._signal_all(signal.SIGKILL)
                left_s = self.grace_s
                end_s += left_s
            self._wait(wakeup, left_s)
            self._reap()
        _log.info("stopped")

    def _signal_all(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, number)  # not reaped yet, so the number is still its own
