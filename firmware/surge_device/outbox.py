"""Keeps readings and sealed reports until the gateway has them on disk; survives power loss at any byte.

Between the app, which samples and seals, and the link, which sends: pending bodies wait unsealed while the
window is full or the link is down; sealing gives a body its (boot, seq) and its exact bytes, which are
durable before ``add_sealed`` returns and are sent unchanged until acked. ``surge_device.outbox_room`` makes
room, ``outbox_store`` keeps the records. Doesn't seal, send, or know time. Rules:
- A reading has one life: pending or sealed, never both, also after a crash between the two.
- Sealed entries go only by ``ack``. Pending ones are thinned when room is short, and counted in
  ``dropped``.
- A (boot, seq) is spent when ``add_sealed`` has begun to write, whatever the outcome: on a failure the
  outbox holds the envelope (``held``) and only ``retry`` goes on, so that the same (boot, seq) never gets
  other bytes.
- Usage counters are cumulative and made at sealing time, so thinning never costs usage.
"""

import struct

from surge_device.errors import OutboxError, OutboxFull
from surge_device.outbox_limits import Limits
from surge_device.outbox_record import ACK, BODY_MAX, PENDING, SEALED
from surge_device.outbox_room import OutboxRoom
from surge_device.storage import Storage

ENVELOPE_MAX = BODY_MAX - 8


class Outbox(OutboxRoom):
    def __init__(self, storage, limits=None):
        """``storage``: a Storage of the outbox's own directory. Call ``load`` before anything else."""
        limits = limits or Limits()
        self._limits = limits
        self.held = None  # (boot, seq, envelope, number) of a sealing that the file system refused
        OutboxRoom.__init__(self, storage, limits.bytes_max, limits.segment_bytes, limits.entries_max)

    def load(self):
        """Recovers what is on flash."""
        self._log.load(self._visit)

    def __len__(self):
        return self._pending.count + self._sealed.count

    @property
    def pending(self):
        """How many bodies wait to be sealed."""
        return self._pending.count

    @property
    def in_flight(self):
        """How many sealed envelopes wait for their ack, those of earlier boots included."""
        return self._sealed.count

    @property
    def window_open(self):
        """Whether a further entry may be sealed now."""
        return self.held is None and self._sealed.count < self._limits.in_flight_max

    @property
    def last_sealed(self):
        """(boot, seq) of the last sealed entry, also when all are acked; None when none ever was."""
        boot, next_seq = self._last
        return (boot, next_seq - 1) if next_seq else None

    @property
    def syncs(self):
        """Durable writes since start; the flash's wear goes with them."""
        return self._log.syncs

    def put_pending(self, body):
        """Stores an unsealed body durably; returns its number. Raises OutboxFull, having counted it in
        ``dropped``."""
        if not 0 < len(body) <= BODY_MAX:
            raise OutboxError("a pending body has 1 to %d bytes, not %d" % (BODY_MAX, len(body)))
        number = self._next_number
        try:
            if self._pending.count == self._pending.capacity:
                self._thin_or_full()
            segment, offset = self._store(PENDING, number, body)
        except OutboxFull:
            self.dropped += 1
            raise
        self._next_number = number + 1
        self._place(PENDING, number, segment, offset, len(body), 0, 0)
        return number

    def next_pending(self):
        """(number, body) of the oldest pending entry, or None when there is none or one is ``held``."""
        while self.held is None and self._pending.count:
            number, segment, offset, _ = self._pending.row(0)
            body = self._log.read(segment, offset, number)
            if body is not None:
                return number, body
            self._log.damaged += 1
            self._forget(number)
        return None

    def add_sealed(self, boot, seq, envelope, number=None):
        """Stores a sealed envelope durably, in the place of pending entry ``number`` if given; then it may
        be sent.

        (boot, seq) follows the last one, or is (a later boot, 0). Raises OutboxFull: with ``held`` set,
        (boot, seq) is spent and ``retry`` is the way on; with ``held`` None (window closed) nothing
        happened."""
        if self.held is not None:
            raise OutboxError("an envelope is held back: retry it first")
        last_boot, next_seq = self._last
        if boot < last_boot or seq != (next_seq if boot == last_boot else 0):
            raise OutboxError("(%d, %d) doesn't follow (%d, %d)" % (boot, seq, last_boot, next_seq - 1))
        if not 0 < len(envelope) <= ENVELOPE_MAX:
            raise OutboxError("an envelope has 1 to %d bytes, not %d" % (ENVELOPE_MAX, len(envelope)))
        if number is not None and self._pending.find(number) is None:
            raise OutboxError("no pending entry %d" % number)
        if not self.window_open:
            raise OutboxFull("in flight: %d, the most allowed" % self._sealed.count)
        if number is None:
            number, self._next_number = self._next_number, self._next_number + 1
        self._keep = number
        self.held = (boot, seq, envelope, number)
        self.retry()

    def retry(self):
        """Stores the held envelope, after which it may be sent. Raises OutboxFull, and holds it on."""
        if self.held is None:
            return
        boot, seq, envelope, number = self.held
        segment, offset = self._store(SEALED, number, struct.pack(">II", boot, seq), envelope)
        self._last = (boot, seq + 1)
        self._forget(number)
        self._place(SEALED, number, segment, offset, 8 + len(envelope), boot, seq)
        self.held = self._keep = None

    def unacked(self, after=None):
        """Yields (boot, seq, envelope) of the sealed entries above ``after`` (boot, seq), oldest first,
        each read from flash when asked for. Acks and sealings in between are taken into account."""
        after = after or (-1, -1)
        while True:
            best = None
            for place in range(self._sealed.count):
                row = self._sealed.row(place)
                if after < row[4:] and (best is None or row[4:] < best[4:]):
                    best = row
            if best is None:
                return
            after = best[4:]
            body = self._log.read(best[1], best[2], best[0])
            if body is not None:
                yield best[4], best[5], body[8:]
            else:
                self._log.damaged += 1
                self._forget(best[0])

    def ack(self, boot, ranges):
        """Deletes the sealed entries of ``boot`` within ``ranges`` ([[first, last], ...]); returns how
        many."""
        count = 0
        body = struct.pack(">I", boot)
        for first, last in ranges:
            found = self._forget_sealed(boot, first, last)
            if found:
                count += found
                body += struct.pack(">II", first, last)
        if count:
            try:
                self._log.append(
                    ACK, 0, body
                )  # not synced: losing it costs a second sending, which is deduplicated
                self._free_dead()
            except OSError:
                pass  # nothing to tell: the entries are gone from RAM, and from flash with their segment
        return count

    def close(self):
        self._log.close()

    def _thin_or_full(self):
        try:
            if self._thin():
                return
        except OSError as error:
            raise OutboxFull("the file system refused to store a report (error %s)" % error.args[0])
        raise OutboxFull("outbox full: no pending entry can be given up")


def open_outbox(path, sync=None, limits=None):
    """The outbox in directory ``path``, loaded. ``sync`` as in Storage."""
    outbox = Outbox(Storage(path, sync), limits)
    outbox.load()
    return outbox
