"""Which devices are this gateway's: asked from the backend, kept on disk, told to ingress and broker.

Place in the flow: beside the way of the reports. Does not decide anything: the backend enrols and retires.
Rules kept: a gateway starts without the backend, from the cache; a frozen device may still report (its
reports are evidence, the backend judges them), a retired or foreign one may not connect; broker and cache
get each round's changes once, and again in the next round where that failed.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import structlog

from surge_gateway.backend_client import AnswerInvalid, BackendClient, DeviceEntry, Refusal, Unavailable
from surge_gateway.broker.errors import BrokerError
from surge_gateway.checked_file import add_check_line, open_check_line
from surge_gateway.clock import Clock
from surge_gateway.commit import OnDisk
from surge_gateway.devices import Devices
from surge_gateway.files import Files, write_atomically
from surge_host.mqtt_credentials import DeviceCredential
from surge_wire.ids import DEVICE, is_id

log = structlog.get_logger()

FILE_NAME = "registry.cache"
DEVICES_MAX = 100_000  # beyond it further devices are left out, and that is said
CONNECTING = ("active", "frozen")

Reload = Callable[[Sequence[DeviceCredential]], Awaitable[None]]


class Registry:
    """`run` until cancelled; `credentials` for a broker's start."""

    def __init__(
        self,
        client: BackendClient,
        devices: Devices,
        files: Files,
        folder: Path,
        on_disk: OnDisk,
        clock: Clock,
        reload: Reload,
        *,
        poll_s: float,
    ) -> None:
        self._client = client
        self._devices = devices
        self._files = files
        self._path = folder / FILE_NAME
        self._on_disk = on_disk
        self._clock = clock
        self._reload = reload
        self._poll_s = poll_s
        self._entries: dict[str, DeviceEntry] = {}
        self._broker_behind = False
        self._cache_behind = False
        self.revision = 0
        self.last_error = ""

    def load(self) -> None:
        """Start from the cache; a damaged one is said, and asked anew. Raises OSError."""
        self.revision, self._entries = read_registry(self._files, self._path)
        for device_id in self._entries:
            self._devices.enrol(device_id)

    def credentials(self) -> list[DeviceCredential]:
        """Of all devices that may connect."""
        return [
            DeviceCredential(entry.device_id, entry.mqtt_bcrypt, entry.mqtt_pbkdf2_sha512)
            for entry in self._entries.values()
        ]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.poll()
                self.last_error = ""
            except (Unavailable, Refusal, AnswerInvalid) as error:
                self.last_error = f"registry: {error}"
                log.debug("registry_not_polled", reason=str(error))
            except OSError as error:
                self.last_error = f"registry: {error.strerror}"
                log.error("registry_not_written", error=error.strerror, path=str(self._path))
            except BrokerError as error:
                self.last_error = f"broker: {error.what}"
                log.error("broker_not_reloaded", what=error.what, where=error.where, remedy=error.remedy)
            await self._clock.sleep(self._poll_s)

    async def poll(self) -> None:
        """One round. Raises what the backend's client, the disk and the broker raise."""
        changed = False
        while True:
            page = await self._client.devices(self.revision)
            for entry in page.devices:
                changed = self._apply(entry) or changed
            advanced = page.revision > self.revision
            self.revision = max(page.revision, self.revision)
            if not (page.more and advanced):
                break
        if changed:
            self._broker_behind = self._cache_behind = True
        if self._broker_behind:
            await self._reload(self.credentials())
            self._broker_behind = False
            log.info("registry_changed", devices=len(self._entries), revision=self.revision)
        if self._cache_behind:
            data = encode_registry(self.revision, self._entries.values())
            await self._on_disk(lambda: write_atomically(self._files, self._path, data))
            self._cache_behind = False

    def _apply(self, entry: DeviceEntry) -> bool:
        if entry.status not in CONNECTING:
            self._devices.remove(entry.device_id)
            return self._entries.pop(entry.device_id, None) is not None
        if entry.device_id not in self._entries and len(self._entries) >= DEVICES_MAX:
            log.error("registry_full", device_id=entry.device_id, devices_max=DEVICES_MAX)
            return False
        changed = self._entries.get(entry.device_id) != entry
        self._entries[entry.device_id] = entry
        self._devices.enrol(entry.device_id)
        return changed


def encode_registry(revision: int, entries: Iterable[DeviceEntry]) -> bytes:
    """The cache file."""
    rows = [
        [entry.device_id, entry.status, entry.mqtt_bcrypt, entry.mqtt_pbkdf2_sha512, entry.revision]
        for entry in entries
    ]
    return add_check_line(json.dumps({"revision": revision, "devices": rows}, indent=0).encode())


def read_registry(files: Files, path: Path) -> tuple[int, dict[str, DeviceEntry]]:
    """`(revision, entries by id)`; nothing where there is no cache or it can't be read. Raises OSError."""
    try:
        document = json.loads(open_check_line(files.read(path)))
        entries = {row[0]: DeviceEntry(*row) for row in document["devices"]}
        revision = document["revision"]
        if type(revision) is not int or not all(is_id(DEVICE, device_id) for device_id in entries):
            raise ValueError("not a registry")
    except FileNotFoundError:
        return 0, {}
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        log.error("registry_damaged", path=str(path), reason=str(error), consequence="it is asked anew")
        return 0, {}
    return revision, entries
