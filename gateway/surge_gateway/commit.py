"""Group commit: what ingress has gathered goes to disk together, and is acknowledged when an fsync covers it.

Place in the flow: between `ingress` and the store, and back to the devices. Does not judge reports. Rules
kept: no ack without the fsync that covers it; while the disk fails or is full, the group is kept and tried
again with jittered, doubling, capped waits, and ingress refuses what goes beyond its bound, so it recovers
without a restart (threat 15); acks are coalesced per device and boot.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from surge_gateway import counters as reasons
from surge_gateway.acks import encode_acks
from surge_gateway.backoff import Backoff
from surge_gateway.clock import Clock
from surge_gateway.counters import Counters
from surge_gateway.dedupe import BootSeqs
from surge_gateway.devices import Device
from surge_gateway.ingress import Group, Ingress
from surge_gateway.store import Store

log = structlog.get_logger()

SAY_AGAIN_S = 60.0  # a disk that stays full is said once in this time


class Publish(Protocol):
    """`MqttLink.publish`."""

    def __call__(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool: ...


OnDisk = Callable[[Callable[[], Any]], Awaitable[Any]]  # runs a function in the disk thread


class Commit:
    """`run` until cancelled; `stored` is set whenever reports became durable."""

    def __init__(
        self,
        ingress: Ingress,
        store: Store,
        publish: Publish,
        on_disk: OnDisk,
        clock: Clock,
        counters: Counters,
        backoff: Backoff,
        *,
        stored: Callable[[], None],
    ) -> None:
        self._ingress = ingress
        self._store = store
        self._publish = publish
        self._on_disk = on_disk
        self._clock = clock
        self._counters = counters
        self._backoff = backoff
        self._stored = stored
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()  # the loop's flush and the one at a stop
        self._said_s: float | None = None
        self.last_error = ""
        ingress.on_work = self._wake.set

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Make durable and acknowledge all that is gathered now, however long the disk takes."""
        async with self._one_at_a_time:
            group = self._ingress.take_group()
            if group.records:
                await self._make_durable(group)
                self._ingress.held_len = 0
                self._note_durable(group)
                self._stored()
            self._send_acks()

    async def _make_durable(self, group: Group) -> None:
        attempt = 0
        while True:
            try:
                await self._on_disk(lambda: self._store.append(group.records))
            except OSError as error:
                self._say(error)
                self._send_acks()  # of what is durable already
                await self._clock.sleep(self._backoff.delay_s(attempt))
                attempt += 1
            else:
                if attempt:
                    log.info("spool_works_again", attempts=attempt)
                if self._ingress.refuse_all == reasons.SPOOL_FULL:
                    self._ingress.refuse_all = None
                self.last_error = ""
                return

    def _say(self, error: OSError) -> None:
        self.last_error = f"spool: {error.strerror}"
        if self._store.spool.full and self._ingress.refuse_all is None:
            self._ingress.refuse_all = reasons.SPOOL_FULL
        now_s = self._clock.monotonic_s()
        if self._said_s is None or now_s - self._said_s >= SAY_AGAIN_S:
            self._said_s = now_s
            log.error(
                "spool_not_writable",
                error=error.strerror,
                spool_full=self._store.spool.full,
                consequence="reports are not acknowledged; devices keep them",
                remedy="free disk space, raise [spool] bytes_max, or let the backend's receipts free it",
            )

    def _note_durable(self, group: Group) -> None:
        wanted = self._ingress.acks_wanted
        for device, seqs, seq in group.owners:
            seqs.note_durable(seq)
            device.stored += 1
            key = (device, seqs)
            if key in wanted:
                wanted[key].append(seq)
            else:
                wanted[key] = [seq]
        self._counters.stored += len(group.owners)

    def _send_acks(self) -> None:
        wanted: dict[tuple[Device, BootSeqs], list[int]] = self._ingress.acks_wanted
        self._ingress.acks_wanted = {}
        now_ms = self._clock.now_ms()
        for (device, seqs), just_stored in wanted.items():
            for ack in encode_acks(seqs.boot, seqs.durable, just_stored, now_ms):
                self._publish(device.ack_topic, ack)
                self._counters.acks += 1
