"""A network that runs already: ``--attach FILE`` names its backend, an owner's token, and its gateways.

Place in the flow: instead of ``site``. Asks only what an owner may ask. Devices are enrolled over the API, at
the pace that the backend allows, and retired at the end: they were made for this run, and their access ends
with it. Rule kept: the network's other devices are neither looked at nor touched. An example of the file::

    [backend]
    url = "https://backend.example"
    owner_token_file = "owner.token"
    [gateways]
    addresses = ["gateway.example:1883"]
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from surge_cli.demo.owner import OwnerClient
from surge_cli.demo.parts import wait_until
from surge_cli.simulate.books import VIOLATIONS_MAX, Books
from surge_cli.simulate.device import Identity
from surge_cli.simulate.dialler import Address
from surge_cli.simulate.enrolment import enrol_over_api
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan
from surge_cli.simulate.probe import lets_in
from surge_host.addresses import is_this_machine
from surge_host.errors import UserError
from surge_host.settings_loader import Secret, load_settings, setting

ENV_PREFIX = "SURGE_SIMULATE"
READY_TIMEOUT_S = 300.0  # for gateways to hear of the devices
POLL_S = 0.5
PAGE = 1_000
TELL_EVERY = 500  # devices enrolled


@dataclass(frozen=True)
class BackendAddress:
    """Whom to ask, and as whom."""

    url: str = setting(help="https://...; http:// only to this machine")
    owner_token: Secret = setting(help="of the owner that the devices shall belong to")  # noqa: RUF009


@dataclass(frozen=True)
class GatewayAddresses:
    """Whose brokers the devices connect to, in turn."""

    addresses: tuple[str, ...] = setting(help="host:port of each gateway's MQTT broker, without TLS")


@dataclass(frozen=True)
class Attachment:
    """The whole file."""

    backend: BackendAddress
    gateways: GatewayAddresses


def read_attachment(path: Path) -> tuple[Attachment, list[Address]]:
    """The file, checked. Raises UserError."""
    found = load_settings(Attachment, path, env_prefix=ENV_PREFIX)
    _check_url(found.backend.url, f"{path}: [backend] url")
    addresses = []
    for text in found.gateways.addresses:
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UserError("not an address", f"{path}: [gateways] {text!r}", "write host:port")
        addresses.append(Address(host.strip("[]"), int(port)))
    if not addresses:
        raise UserError("no gateway", f"{path}: [gateways] addresses", "name at least one broker")
    return found, addresses


def _check_url(text: str, where: str) -> None:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError("not the address of a backend", where, "write it as https://backend.example")
    if url.scheme == "http" and not is_this_machine(url.host):
        raise UserError("the owner's token would travel in the clear", where, "use https://")


class Attached:
    """The network that ``file`` names, with ``devices`` devices of this run."""

    def __init__(self, file: Path, tell: Callable[[str], None], *, devices: int) -> None:
        self._file = file
        attachment, self.addresses = read_attachment(file)
        self.where = f"backend {attachment.backend.url}/"
        self.identities: list[Identity] = []
        self._devices = devices
        self._tell = tell
        self._attachment = attachment
        self._owner = OwnerClient(attachment.backend.url, attachment.backend.owner_token.reveal())

    async def start(self) -> None:
        """Enrol the devices; returns when every gateway lets the last of them in."""
        backend = self._attachment.backend

        def tell(done: int) -> None:
            if done % TELL_EVERY == 0:
                self._tell(f"{done:,} of {self._devices:,} devices enrolled")

        self.identities = await enrol_over_api(backend.url, backend.owner_token.reveal(), self._devices, tell)
        self._tell(f"{self._devices:,} devices enrolled")
        for address in self.addresses:

            async def knows(one: Address = address) -> bool:
                return await lets_in(self.identities[-1], one)

            await self._until(f"{address.host}:{address.port} lets the devices in", knows, READY_TIMEOUT_S)

    async def _until(self, what: str, ready: Callable[[], Any], timeout_s: float) -> None:
        await wait_until(what, ready, where=self._file, timeout_s=timeout_s, poll_s=POLL_S)

    def check(self) -> None:
        """Others run this network."""

    async def stats(self) -> dict[str, Any]:
        """The backend's public numbers, of all its devices; empty where it doesn't answer now."""
        try:
            return dict(await self._owner.get("/v1/stats"))
        except UserError:
            return {}

    async def conclude(self, plan: Plan, journal: Journal, undrained: int, timeout_s: float) -> Books:
        """Wait until the backend has everything, or time is up, and compare; then retire the devices."""
        end_s = time.monotonic() + timeout_s
        records = await self._records()
        while any(compare(journal, records).values()) and time.monotonic() < end_s:
            await asyncio.sleep(POLL_S)
            records = await self._records()
        checks = compare(journal, records)
        checks["outboxes_drained"] = [f"{undrained} devices still wait for acks"] if undrained else []
        totals = [record["totals"] for record in records.values()]
        return Books(
            checks,
            sum(one["reports"] for one in totals),
            {},
            sum(one["microcredits"] for one in totals),
            sum(record["status"] == "frozen" for record in records.values()),
        )

    async def _records(self) -> dict[str, dict[str, Any]]:
        """What the backend says of this run's devices."""
        own = {identity.device_id for identity in self.identities}
        found: dict[str, dict[str, Any]] = {}
        after = ""
        while True:
            page = await self._owner.get("/v1/devices", after_id=after, limit=PAGE)
            found.update({one["device_id"]: one for one in page if one["device_id"] in own})
            if len(page) < PAGE:
                return found
            after = page[-1]["device_id"]

    async def stop(self) -> None:
        """Retire the devices."""
        for identity in self.identities:
            reason = {"reason": "a simulation has ended"}
            await self._owner.post(f"/v1/devices/{identity.device_id}/retire", reason)
        self.identities = []
        await self._owner.close()


def compare(journal: Journal, records: Mapping[str, dict[str, Any]]) -> dict[str, list[str]]:
    """What the journal and the backend's answers don't agree in, by check: totals of each honest device, and
    who is frozen."""
    accepted, frozen, clones = [], [], []
    for device_id, record in sorted(records.items()):
        if device_id in journal.cloned:
            if record["status"] != "frozen":
                clones.append(f"{device_id} was {journal.cloned[device_id]} and is {record['status']}")
            continue
        if record["status"] != "active":
            frozen.append(f"{device_id} is {record['status']}")
        own, totals = journal.sealings.get(device_id), record["totals"]
        made = (own.reports - len(own.lost), own.samples, own.bytes) if own else (0, 0, 0)
        counted = (totals["reports"], totals["samples"], totals["bytes"])
        if made != counted:
            accepted.append(
                f"{device_id} made {made[0]} reports of {made[1]} samples in {made[2]} bytes; counted are"
                f" {counted[0]}, {counted[1]}, {counted[2]}"
            )
    return {
        "honest_work_accepted": accepted[:VIOLATIONS_MAX],
        "nobody_else_frozen": frozen[:VIOLATIONS_MAX],
        "clones_frozen": clones[:VIOLATIONS_MAX],
    }
