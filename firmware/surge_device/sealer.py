"""Seals readings into reports: gives each its (boot, seq) and its MAC, and puts it into the outbox before
it is sent.

Between the outbox's pending entries and the courier. Doesn't send and doesn't sample. Rules:
- ``seq`` rises by one for each report of a boot, without holes; a report is durable before anybody may send
  it. What the file system refused is held by the outbox and tried again, the same bytes.
- The first report of a boot states where the boot before ended (spec/report.md, label 7), if that is known.
- Usage is added to the first report and to every USAGE_EVERY-th: cumulative, so one that is lost costs
  nothing.
- A record that makes no report costs itself, never the others of its reading: it is left out and counted.
"""

from surge_device.errors import OutboxFull
from surge_device.reading import decode_reading, encode_reading, fitting, reading_time_ms
from surge_wire.errors import EncodeError, WireError
from surge_wire.hkdf import INFO_REPORT, derive_key
from surge_wire.limits import RECORDS_MAX
from surge_wire.report import Report, seal_report

USAGE_EVERY = 6


class Sealer:
    def __init__(self, identity, boot, previous_end, outbox, meter, clock, commands, log):
        """``previous_end`` is the seq that boot - 1 would have used next, or None if that isn't known."""
        self.boot = boot
        self.seq = 0  # of the next report
        self.damaged = 0  # pending entries that could not be read back
        self._device = identity.device
        self._key = derive_key(identity.secret, INFO_REPORT)
        self._previous_end = previous_end
        self._outbox = outbox
        self._meter = meter
        self._clock = clock
        self._commands = commands
        self._log = log
        self._dropped_before = outbox.dropped

    def add_reading(self, pack):
        """Take a new reading: seal it at once if nothing waits before it and the window has room, else let
        it wait. Returns how many of its records had to be left out.

        Raises OutboxFull where there is no room at all; the outbox has counted it then.
        """
        uptime_ms = self._clock.uptime_ms()
        time_ms = self._clock.now_ms()
        try:
            self._take(uptime_ms, time_ms, pack)
            return 0
        except EncodeError:
            kept = fitting(pack)
            self._take(uptime_ms, time_ms, kept)
            return len(pack) - len(kept)

    def seal_waiting(self):
        """Seal what waits, oldest first, as far as the window has room; returns how many."""
        count = 0
        if self._outbox.held is not None:
            try:
                self._outbox.retry()
            except OutboxFull:  # said when it began
                return 0
            self._log.info("outbox.stores-again")
            count = 1
        while self._outbox.window_open:
            waiting = self._outbox.next_pending()
            if waiting is None:
                break
            self._seal_waiting(*waiting)
            count += 1
        return count

    def _take(self, uptime_ms, time_ms, pack):
        if len(pack) > RECORDS_MAX:
            raise EncodeError("too many records", str(len(pack)))
        if self._outbox.window_open and not self._outbox.pending:
            self._seal(self.boot, uptime_ms, time_ms, pack, None)
        else:
            self._outbox.put_pending(encode_reading(self.boot, uptime_ms, time_ms, pack))

    def _seal_waiting(self, number, body):
        try:
            boot, uptime_ms, time_ms, pack = decode_reading(body)
            self._seal(boot, uptime_ms, time_ms, pack, number)
        except WireError:
            # CRC-checked bytes of our own making: only an older firmware's form can end up here.
            self.damaged += 1
            self._seal(self.boot, self._clock.uptime_ms(), None, [], number)

    def _seal(self, boot, uptime_ms, time_ms, pack, number):
        """Make the report, spend its seq, store it. An EncodeError comes before anything has changed."""
        time_ms = reading_time_ms(self.boot, self._clock, boot, uptime_ms, time_ms)
        if boot != self.boot:
            # the other boot's uptime would mean nothing beside this boot's number
            uptime_ms = self._clock.uptime_ms()
        usage = None
        if self.seq % USAGE_EVERY == 0 or not pack:
            usage = self._meter.usage(self._outbox.dropped - self._dropped_before)
        report = Report(
            self.boot,
            self.seq,
            uptime_ms,
            time_ms,
            pack or None,
            usage,
            self._previous_end if self.seq == 0 else None,
            self._commands.last or None,
        )
        envelope = seal_report(self._device, self._key, report)
        seq = self.seq
        self.seq = seq + 1  # spent from here on, whatever the file system says
        self._meter.count_report(len(pack), len(envelope))
        try:
            self._outbox.add_sealed(self.boot, seq, envelope, number)
        except OutboxFull as full:
            if self._outbox.held is None:
                raise
            self._log.warning("outbox.refused", full)  # not lost: ``seal_waiting`` tries it again
