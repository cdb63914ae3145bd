"""The gateway's composition root: makes every part, runs them in one task group, stops them in order.

Place in the flow: called by `cli`. Holds no rule of its own but these: all disk work goes through one
thread; no broker and no backend are fine at the start, and said; at a stop nothing more is accepted, what
is gathered is made durable and acknowledged, the last batch is closed, sending is tried for `drain_s`, and
what is left goes after the next start.
"""

import asyncio
import contextlib
import dataclasses
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import structlog

from surge_gateway import counters as reasons
from surge_gateway.aggregate import Aggregator
from surge_gateway.backend_client import BackendClient
from surge_gateway.backoff import Backoff
from surge_gateway.batcher import Batcher, ClosingRules
from surge_gateway.broker_choice import make_broker
from surge_gateway.chain import SealedBatch
from surge_gateway.clock import Clock
from surge_gateway.commit import Commit
from surge_gateway.counters import Counters
from surge_gateway.cut import CutLimits, Cutter, cut_verbatim
from surge_gateway.devices import Devices
from surge_gateway.dispatch import Dispatch
from surge_gateway.distrust import Distrust
from surge_gateway.files import Files
from surge_gateway.identity import Identity
from surge_gateway.ingress import Ingress
from surge_gateway.log_watch import LogWatch
from surge_gateway.mqtt import MqttLink
from surge_gateway.quota import Quota
from surge_gateway.recovered import remember_record
from surge_gateway.refusals import Refusals
from surge_gateway.registry import Registry
from surge_gateway.settings import BATCH_FRAME_LEN, Settings
from surge_gateway.status import BrokerState, Status
from surge_gateway.status_server import StatusServer, write_url
from surge_gateway.store import Store, open_store
from surge_gateway.uplink import Uplink
from surge_host.errors import UserError
from surge_host.mqtt_credentials import DeviceCredential
from surge_wire.ed25519 import signer
from surge_wire.limits import REPORT_LEN_MAX

log = structlog.get_logger()

DISK_RETRY_MS = 200  # first wait after a failed write; then doubled
DISK_RETRY_MAX_MS = 10_000
STATUS_URL_NAME = "status.url"


class Gateway:
    """One run of a gateway: made from settings and identity, `run` once."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        files: Files,
        http: httpx.AsyncClient,
        disk: ThreadPoolExecutor,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._files = files
        self._disk = disk
        self._clock = clock
        self._folder = settings.gateway.state_dir
        self.counters = Counters()
        self.devices = Devices(settings.ingress.reports_burst_max)
        client = BackendClient(http, settings.backend.url, identity.token.reveal(), clock)
        self.registry = Registry(
            client,
            self.devices,
            files,
            self._folder,
            self._on_disk,
            clock,
            self._reload_broker,
            poll_s=settings.registry.poll_s,
        )
        self.registry.load()
        self.store = self._open_store()
        self._distrust = Distrust(self.store.quarantine, self.devices)
        self.ingress = Ingress(
            self.devices,
            Quota(settings.ingress.reports_per_s_max, settings.ingress.reports_burst_max),
            clock,
            self.counters,
            report_len_max=settings.ingress.report_bytes_max,
            pending_len_max=settings.ingress.pending_bytes_max,
        )
        self.broker, mqtt = make_broker(settings, identity, files, self.registry.credentials())
        self.link = MqttLink(mqtt, self.ingress.on_message)
        self.commit = Commit(
            self.ingress,
            self.store,
            self.link.publish,
            self._on_disk,
            clock,
            self.counters,
            Backoff(DISK_RETRY_MS, DISK_RETRY_MAX_MS, random.random),
            stored=self._poke,
        )
        self.batcher = self._make_batcher(settings, identity)
        self.watch = LogWatch(
            client,
            identity.log_public_key,
            files,
            self._folder,
            self._on_disk,
            clock,
            check_s=settings.transparency.check_s,
        )
        self.uplink = Uplink(
            client,
            self.store,
            self.watch,
            identity.gateway_id,
            identity.log_public_key,
            self._on_disk,
            clock,
            self.counters,
            Backoff(settings.backend.retry_ms, settings.backend.retry_max_ms, random.random),
            refused_retry_s=settings.backend.refused_retry_ms / 1000,
            changed=self._poke,
            too_large=self._make_batches_smaller,
        )
        self.dispatch = Dispatch(
            client,
            self.devices,
            self.link.publish,
            clock,
            self.counters,
            poll_s=settings.dispatch.poll_s,
            republish_s=settings.dispatch.republish_s,
        )
        self.ingress.on_device = self.dispatch.on_device
        self.status = Status(
            identity.gateway_id,
            clock.now_ms(),
            clock,
            self.counters,
            self.devices,
            self.store,
            self.uplink,
            self.watch,
            self.dispatch,
            self._broker_state,
            self._errors,
            lambda: self.commit.last_error,
        )
        self._progress = asyncio.Event()  # something was stored, sealed or confirmed

    def _open_store(self) -> Store:
        settings = self._settings
        try:
            return open_store(
                self._files,
                self._folder,
                os.urandom,
                len_max=settings.spool.bytes_max,
                batch_len_max=settings.batch.bytes_max + BATCH_FRAME_LEN,
                on_record=lambda record: remember_record(self.devices, record),
            )
        except OSError as error:
            raise UserError(
                f"the spool can't be opened: {error.strerror}",
                f"[gateway] state_dir = {self._folder}",
                "check the disk and the folder's owner",
            ) from error

    def _make_batcher(self, settings: Settings, identity: Identity) -> Batcher:
        window_ms = settings.aggregate.window_s * 1000 if settings.aggregate.enabled else 0
        cutter: Cutter = Aggregator(window_ms).cut if window_ms else cut_verbatim
        return Batcher(
            self.store,
            ClosingRules(
                CutLimits(settings.batch.reports_max, settings.batch.bytes_max),
                settings.batch.age_ms,
                window_ms,
            ),
            cutter,
            identity.gateway_id,
            signer(identity.seed_bytes),
            self._on_disk,
            self._clock,
            self.counters,
            Backoff(DISK_RETRY_MS, DISK_RETRY_MAX_MS, random.random),
            sealed=self._poke,
        )

    async def _on_disk(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, work)
        finally:
            self._distrust.look()

    async def _reload_broker(self, credentials: Sequence[DeviceCredential]) -> None:
        if self.broker is not None:
            await self.broker.reload(credentials)
        else:
            log.info("broker_is_external", remedy="run `surge gateway mosquitto-files` and reload the broker")

    def _poke(self) -> None:
        self.batcher.poke()
        self.uplink.poke()
        self._progress.set()

    def _make_batches_smaller(self, refused: SealedBatch) -> None:
        """The backend, or what stands before it, takes no batch as large as that: half of it from now on."""
        limits = self.batcher.rules.limits
        smaller = CutLimits(
            max(1, min(limits.reports_max, refused.taken_count // 2)),
            max(REPORT_LEN_MAX, min(limits.bytes_max, len(refused.envelope) // 2)),
        )
        self.batcher.rules = dataclasses.replace(self.batcher.rules, limits=smaller)
        log.warning("batches_made_smaller", reports_max=smaller.reports_max, bytes_max=smaller.bytes_max)

    def _broker_state(self) -> BrokerState:
        statistics = self.link.statistics
        return BrokerState(
            self._settings.gateway.broker,
            statistics.connected,
            statistics.reconnects,
            0 if self.broker is None else self.broker.restarts,
            statistics.dropped,
        )

    def _errors(self) -> list[str]:
        parts = (self.commit, self.batcher, self.uplink, self.registry, self.watch)
        return [part.last_error for part in parts if part.last_error]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, then drain. Raises UserError, ChainError, BrokerError (in a group)."""
        async with contextlib.AsyncExitStack() as stack:
            if self.broker is not None:
                stack.push_async_callback(self.broker.stop)
                await self.broker.start_or_wait()
            if self._settings.status.enabled:
                await self._start_status(stack)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(part.run(), name=name)
                    for name, part in (
                        ("commit", self.commit),
                        ("batcher", self.batcher),
                        ("uplink", self.uplink),
                        ("log watch", self.watch),
                        ("registry", self.registry),
                        ("dispatch", self.dispatch),
                        ("refusals", Refusals(self.counters, self._clock)),
                    )
                ]
                broker = None if self.broker is None else group.create_task(self.broker.run(), name="broker")
                link = group.create_task(self.link.run(), name="mqtt link")
                log.info(
                    "gateway_started",
                    gateway_id=self.status.gateway_id,
                    recovered=self.store.waiting_count,
                    sealed=self.store.sealed_count,
                    waiting_for=self.status.waiting_for(),
                )
                await stop.wait()
                await self._drain(link)
                for task in tasks if broker is None else [*tasks, broker]:
                    task.cancel()

    async def _start_status(self, stack: contextlib.AsyncExitStack) -> None:
        server = StatusServer(self.status, self._settings.status.host, self._settings.status.port)
        await server.start()
        stack.push_async_callback(server.stop)
        path = self._folder / STATUS_URL_NAME
        await self._on_disk(lambda: write_url(self._files, path, server.url))

    async def _drain(self, link: asyncio.Task[None]) -> None:
        """As reports flow: no more come in, what is here is made durable and acknowledged, then sent."""
        log.info("gateway_stopping", drain_s=self._settings.gateway.drain_s)
        self.ingress.refuse_all = reasons.STOPPING
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.gateway.drain_s):
                await self.commit.flush()
                await self._cancel(link)
                await self._send_rest()
        await self._cancel(link)
        log.info("gateway_stopped", waiting=self.store.waiting_count, sealed=self.store.sealed_count)

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _send_rest(self) -> None:
        while self.store.reconciled and (self.store.waiting_count or self.store.sealed_count):
            self._progress.clear()
            if not await self.batcher.seal():
                await self._progress.wait()
