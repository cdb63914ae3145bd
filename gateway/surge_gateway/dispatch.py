"""Brings the backend's commands to devices.

Place in the flow: from the backend's list to the devices' command topics. Can neither make nor change a
command: they are sealed for the device. Rules kept: a command is published when its device is there, and
again until the device's reports say that it was executed, or it expires; what is waiting is bounded, and
after a restart the backend's list brings all of it again.
"""

from dataclasses import dataclass

import structlog

from surge_gateway.backend_client import AnswerInvalid, BackendClient, CommandEntry, Refusal, Unavailable
from surge_gateway.clock import Clock
from surge_gateway.commit import Publish
from surge_gateway.counters import Counters
from surge_gateway.devices import Device, Devices
from surge_wire.cbor import decode
from surge_wire.command import COUNTER, EXPIRES_MS
from surge_wire.cose import TAG_MAC0, open_profile
from surge_wire.errors import DecodeError
from surge_wire.fields import uint, uint_or_none
from surge_wire.limits import COMMAND_LEN_MAX, UINT32_MAX, UINT53_MAX

log = structlog.get_logger()

WAITING_MAX = 10_000  # commands; at the limit further ones stay with the backend until some are done
PUBLISHES_MAX = 100  # of one command; then it is given up here, and stays open with the backend


@dataclass(slots=True)
class WaitingCommand:
    """`counter` and `expires_ms` as the command itself says; `published_s` None: not yet."""

    number: int
    device_id: str
    envelope: bytes
    counter: int
    expires_ms: int | None
    published_s: float | None = None
    publishes: int = 0


def read_command(entry: CommandEntry) -> WaitingCommand:
    """What a gateway may know of a command: whose it is, its counter, its expiry. Raises DecodeError."""
    opened = open_profile(TAG_MAC0, entry.envelope, COMMAND_LEN_MAX)
    if opened.kid != entry.device_id.encode():
        raise DecodeError("command for another device")
    fields = decode(opened.payload)
    if type(fields) is not dict:
        raise DecodeError("message not a map")
    counter = uint(fields, COUNTER, UINT32_MAX)
    return WaitingCommand(
        entry.number, entry.device_id, entry.envelope, counter, uint_or_none(fields, EXPIRES_MS, UINT53_MAX)
    )


class Dispatch:
    """`run` until cancelled; `on_device` when one appears."""

    def __init__(
        self,
        client: BackendClient,
        devices: Devices,
        publish: Publish,
        clock: Clock,
        counters: Counters,
        *,
        poll_s: float,
        republish_s: float,
    ) -> None:
        self._client = client
        self._devices = devices
        self._publish = publish
        self._clock = clock
        self._counters = counters
        self._poll_s = poll_s
        self._republish_s = republish_s
        self._waiting: dict[int, WaitingCommand] = {}
        self._appeared: set[str] = set()  # devices that came online since the last round
        self._after_id = 0

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def on_device(self, device: Device) -> None:
        """It has just come online: send it what waits at the next round, whenever that was sent last."""
        self._appeared.add(device.device_id)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.poll()
            except (Unavailable, Refusal, AnswerInvalid) as error:
                log.debug("commands_not_polled", reason=str(error))
            self.send_due()
            await self._clock.sleep(self._poll_s)

    async def poll(self) -> None:
        """Take up new commands. Raises what `BackendClient` raises."""
        if len(self._waiting) >= WAITING_MAX:
            return
        for entry in await self._client.commands(self._after_id):
            if len(self._waiting) >= WAITING_MAX:
                return
            self._after_id = max(self._after_id, entry.number)
            try:
                self._waiting[entry.number] = read_command(entry)
            except DecodeError as error:
                log.error(
                    "command_malformed", number=entry.number, device_id=entry.device_id, reason=error.reason
                )

    def send_due(self) -> None:
        """Publish what is due, forget what is done or over."""
        now_ms = self._clock.now_ms()
        now_s = self._clock.monotonic_s()
        appeared, self._appeared = self._appeared, set()
        for command in list(self._waiting.values()):
            device = self._devices.find(command.device_id)
            if device is not None and device.command_counter >= command.counter:
                del self._waiting[command.number]  # executed, or overtaken by a later one
            elif command.expires_ms is not None and command.expires_ms < now_ms:
                del self._waiting[command.number]
            elif command.publishes >= PUBLISHES_MAX:
                del self._waiting[command.number]
                log.warning("command_given_up", number=command.number, device_id=command.device_id)
            elif device is not None and device.online and self._is_due(command, now_s, appeared):
                self._send(command, device, now_s)

    def _send(self, command: WaitingCommand, device: Device, now_s: float) -> None:
        if self._publish(device.command_topic, command.envelope, 1):  # else: no room, at the next round
            command.published_s = now_s
            command.publishes += 1
            self._counters.commands_published += 1

    def _is_due(self, command: WaitingCommand, now_s: float, appeared: set[str]) -> bool:
        if command.published_s is None or command.device_id in appeared:
            return True
        return now_s - command.published_s >= self._republish_s
