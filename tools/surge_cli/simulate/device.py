"""A device as the firmware is one: boots, seals, sends, hears acks and commands. Pure.

Place in the flow: the fleet's members own one each and do its I/O; ``flash`` is what it keeps. Time comes in
as ``now_ms``, the simulator's monotonic clock. Does not know MQTT, loss or plans. Rules kept, those of
``protocol/spec`` and of ``surge_device``'s sealer, courier, meter and commands:

- a boot number is on flash before it is used; a seq is given at sealing, and sealing waits for the window;
- the first report of a boot states where the boot before ended, if that is known;
- usage is cumulative within a boot, in its first report and in every USAGE_EVERY-th;
- what isn't acked within a pause is sent again, the same bytes; the pause doubles up to RETRY_MAX_MS and is
  short again after an ack; a new link sends all that waits;
- a command's counter is on flash before it is executed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from surge_cli.simulate.clocks import Skew, claimed_ms
from surge_cli.simulate.flash import Flash, Reading, Sealed
from surge_wire import command
from surge_wire.ack import decode_ack
from surge_wire.errors import DecodeError
from surge_wire.hkdf import INFO_COMMAND, INFO_REPORT, derive_key, mqtt_password
from surge_wire.limits import ACK_LEN_MAX
from surge_wire.report import Report, Usage, seal_report

USAGE_EVERY = 6
RETRY_MIN_MS = 4_000  # longer than a gateway with default settings takes to ack
RETRY_MAX_MS = 60_000
INTERVAL_MAX_S = 86_400


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """What an enrolled device holds; its ``repr`` shows no secret."""

    device_id: str
    secret: bytes
    report_key: bytes

    def __repr__(self) -> str:
        return f"Identity({self.device_id})"

    def password(self) -> str:
        """Its MQTT password."""
        return mqtt_password(self.secret)


def make_identity(device_id: str, secret: bytes) -> Identity:
    """An identity with its keys."""
    return Identity(device_id, secret, derive_key(secret, INFO_REPORT))


@dataclass(frozen=True, slots=True)
class Executed:
    """A command that was executed: what the shell has to do about it."""

    operation: int
    interval_ms: int | None = None


class SimulatedDevice:
    """One device. Call ``start`` first; every method returns at once."""

    __slots__ = (
        "_bytes",
        "_dropped",
        "_link_up",
        "_offset_ms",
        "_previous_end",
        "_repeat_to",
        "_reports",
        "_retry_ms",
        "_samples",
        "_sent_to",
        "_seq",
        "_started_ms",
        "flash",
        "identity",
        "refused",
        "retry_at_ms",
        "skew",
    )

    def __init__(self, identity: Identity, skew: Skew = Skew.NONE, flash: Flash | None = None) -> None:
        self.identity = identity
        self.skew = skew
        self.flash = flash or Flash()
        self.refused = 0  # acks and commands that were none
        self._started_ms = 0
        self._forget()

    def _forget(self) -> None:
        """What only RAM had."""
        self._seq = self._reports = self._samples = self._bytes = self._dropped = 0
        self._previous_end: int | None = None
        self._offset_ms: int | None = None
        self._link_up = False
        self._forget_link()

    def _forget_link(self) -> None:
        self._sent_to: tuple[int, int] | None = None
        self._repeat_to: tuple[int, int] | None = None
        self.retry_at_ms: int | None = None
        self._retry_ms = RETRY_MIN_MS

    # --- boots -----------------------------------------------------------------------------------------

    @property
    def boot(self) -> int:
        """The number of this boot."""
        return self.flash.boot

    @property
    def next_seq(self) -> int:
        """Of the next report to be sealed in this boot."""
        return self._seq

    @property
    def in_flight(self) -> int:
        """Sealed reports that no ack has covered."""
        return len(self.flash.sealed)

    @property
    def empty(self) -> bool:
        """Whether nothing waits, sealed or not."""
        return not self.flash.sealed and not self.flash.waiting

    def start(self, now_ms: int) -> None:
        """Begin a boot."""
        self._forget()
        self._previous_end = self.flash.begin_boot()
        self._started_ms = now_ms

    def power_cut(self, now_ms: int, acks_survive: bool = True) -> None:
        """Lose what was not on flash, and begin the next boot."""
        self.flash.cut_power(acks_survive)
        self.start(now_ms)

    # --- readings and reports -----------------------------------------------------------------------------

    def time_ms(self, now_ms: int) -> int | None:
        """The time of day as this device believes it."""
        return claimed_ms(self.skew, now_ms - self._started_ms, self._offset_ms)

    def take_reading(self, pack: list[dict[int, Any]], now_ms: int) -> tuple[list[Sealed], int]:
        """Seal a new reading at once if nothing waits before it and the window has room, else let it wait.

        Returns what was sealed, and how many waiting readings were thinned out."""
        reading = Reading(self.boot, now_ms - self._started_ms, self.time_ms(now_ms), pack, now_ms)
        if self.flash.window_open and not self.flash.waiting:
            return [self._seal(reading, now_ms)], 0
        thinned = self.flash.keep_waiting(reading)
        self._dropped += thinned
        return self.seal_waiting(now_ms), thinned

    def seal_waiting(self, now_ms: int) -> list[Sealed]:
        """Seal what waits, oldest first, as far as the window has room."""
        made = []
        while self.flash.waiting and self.flash.window_open:
            made.append(self._seal(self.flash.waiting[0], now_ms))
            del self.flash.waiting[0]
        return made

    def _seal(self, reading: Reading, now_ms: int) -> Sealed:
        uptime_ms, time_ms = reading.uptime_ms, reading.time_ms
        if reading.boot != self.boot:
            uptime_ms = now_ms - self._started_ms  # another boot's uptime means nothing beside this number
        elif time_ms is None:
            now_claimed = self.time_ms(now_ms)
            if now_claimed is not None:
                time_ms = now_claimed - (now_ms - self._started_ms - uptime_ms)
        seq = self._seq
        usage = Usage(self._reports, self._samples, self._bytes, self._dropped)
        report = Report(
            self.boot,
            seq,
            uptime_ms,
            time_ms,
            reading.pack,
            usage if seq % USAGE_EVERY == 0 else None,
            self._previous_end if seq == 0 else None,
            self.flash.command or None,
        )
        envelope = seal_report(self.identity.device_id, self.identity.report_key, report)
        self._seq = seq + 1
        self._reports += 1
        self._samples += len(reading.pack)
        self._bytes += len(envelope)
        sealed = Sealed(self.boot, seq, envelope, len(reading.pack), reading.taken_ms)
        self.flash.keep_sealed(sealed)
        return sealed

    # --- the link --------------------------------------------------------------------------------------

    def on_link(self, up: bool) -> None:
        """A new link, or its end: what waits is sent again on the next one."""
        self._link_up = up
        self._forget_link()

    def due(self, now_ms: int) -> list[Sealed]:
        """What to send now, oldest first; counts as sent. ``retry_at_ms`` says when to ask again."""
        if not self._link_up:
            return []
        sealed = self.flash.sealed
        if not sealed:
            self.retry_at_ms = None
            self._retry_ms = RETRY_MIN_MS
            return []
        out: list[Sealed] = []
        if self.retry_at_ms is not None and now_ms >= self.retry_at_ms:
            self._retry_ms = min(2 * self._retry_ms, RETRY_MAX_MS)
            self.retry_at_ms = None
            repeat_to = self._repeat_to
            out += [entry for name, entry in sealed.items() if repeat_to is None or name <= repeat_to]
        out += self._unsent()
        if out and (self._sent_to is None or out[-1].name > self._sent_to):
            self._sent_to = out[-1].name
        for entry in out:
            entry.attempts += 1
        if self.retry_at_ms is None:
            self.retry_at_ms = now_ms + self._retry_ms
            self._repeat_to = self._sent_to
        return out

    def _unsent(self) -> Iterator[Sealed]:
        sent_to = self._sent_to
        return iter([entry for name, entry in self.flash.sealed.items() if sent_to is None or name > sent_to])

    def on_ack(self, payload: bytes, now_ms: int) -> list[Sealed]:
        """Take an ack; returns the reports that it covers and that waited for it."""
        try:
            if len(payload) > ACK_LEN_MAX:
                raise DecodeError("too long")
            ack = decode_ack(payload)
        except DecodeError:
            self.refused += 1
            return []
        self._offset_ms = ack.time_ms - (now_ms - self._started_ms)
        covered = self.flash.acknowledge(ack.boot, ack.ranges)
        if covered:
            self._retry_ms = RETRY_MIN_MS
            if self.retry_at_ms is not None:
                self.retry_at_ms = min(self.retry_at_ms, now_ms + RETRY_MIN_MS)
        return covered

    def on_command(self, payload: bytes, now_ms: int) -> Executed | None:
        """Take a command; what was executed, None where it was refused or is known."""
        key = derive_key(self.identity.secret, INFO_COMMAND)
        try:
            found = command.open_command(payload, self.identity.device_id, key)
        except DecodeError:
            self.refused += 1
            return None
        if found.counter <= self.flash.command:
            return None
        time_ms = self.time_ms(now_ms)
        if found.expires_ms is not None and time_ms is not None and time_ms > found.expires_ms:
            self.refused += 1
            return None
        self.flash.command = found.counter
        if found.operation == command.SET_REPORT_INTERVAL:
            seconds = (found.arguments or {}).get(1)
            if type(seconds) is not int or not 1 <= seconds <= INTERVAL_MAX_S:
                self.refused += 1
                return None
            return Executed(found.operation, seconds * 1000)
        if found.operation not in command.OPERATIONS:
            self.refused += 1
            return None
        return Executed(found.operation)
