"""What the telemetry store says of itself, without ever making who asks wait for a slow store.

Place in the flow: `/v1/stats` and `/healthz` ask; a busy or dead store may take long to answer. One question
of a kind is under way at a time; who asks gets the newest answer there is.

Rules kept: an answer is asked for anew after `AGE_MIN_S`, or after fifty times as long as the last one took,
so that counting a large store never keeps it busy; nothing waits longer than `WAIT_S`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from surge_backend.telemetry.store import StoreError

Answer = TypeVar("Answer")

AGE_MIN_S = 1.0
WAIT_S = 1.0
REST_FACTOR = 50

_log = structlog.get_logger("surge.backend.telemetry")


class Watched(Generic[Answer]):
    """The newest answer to one question; None while there is none, or while the last attempt failed."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[Answer]]) -> None:
        self._name = name
        self._ask = ask
        self._answer: Answer | None = None
        self._due_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> Answer | None:
        """The answer, waiting at most WAIT_S for a newer one."""
        if self._task is None and time.monotonic() >= self._due_s:
            self._task = asyncio.create_task(self._refresh(), name=f"watch-{self._name}")
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=WAIT_S)
        return self._answer

    async def _refresh(self) -> None:
        started_s = time.monotonic()
        try:
            self._answer = await self._ask()
        except StoreError as error:
            self._answer = None
            _log.warning("telemetry_store_failed", question=self._name, error=str(error))
        finally:
            took_s = time.monotonic() - started_s
            self._due_s = time.monotonic() + max(AGE_MIN_S, REST_FACTOR * took_s)
            self._task = None

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
