"""The outbox under any order of operations, power cuts, refusals and damage: a Hypothesis state machine.

The model knows what was handed over, what the outbox said was stored, and what was acked; it reads the flash
by the record's format alone. `SURGE_FUZZ_EXAMPLES` lengthens the search.
"""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from power_storage import PowerCut, PowerStorage

from surge_device.errors import OutboxFull
from surge_device.outbox import Limits, Outbox

SEGMENT_BYTES = 8_400
LIMITS = [
    Limits(8 * SEGMENT_BYTES, SEGMENT_BYTES, 24, 4),
    Limits(4 * SEGMENT_BYTES, SEGMENT_BYTES, 300, 16),
    Limits(6 * SEGMENT_BYTES, SEGMENT_BYTES, 3, 2),
]
HEADER = struct.Struct(">HBHII")
HEAD, PENDING, SEALED, ACK, DROP = range(1, 6)
sizes = st.sampled_from([8, 9, 300, 1_500, 4_000])


class OutboxMachine(RuleBasedStateMachine):
    """One board's outbox over its lives, and what an observer outside knows of it."""

    @initialize(seed=st.integers(0, 1 << 20), limits=st.sampled_from(LIMITS))
    def first_start(self, seed: int, limits: Limits) -> None:
        self.storage = PowerStorage(seed)
        self.limits = limits
        self.boot = 0
        self.readings = 0
        self.bodies: dict[int, bytes] = {}  # reading -> what was handed over, alone or in its envelope
        self.envelopes: dict[tuple[int, int], bytes] = {}  # every name ever given out, with its bytes
        self.pending: set[int] = set()  # readings said to be stored, and not sealed
        self.sealed: dict[tuple[int, int], int] = {}  # said to be stored and not acked, with their readings
        self.was_sealed: set[int] = set()
        self.acked: set[int] = set()
        self.lost: set[int] = set()  # pending readings given up
        self.hurt: set[int] = set()  # readings whose records were damaged
        self.damages = 0
        self.faults: set[str] = set()
        self.turned: dict[str, list[tuple[int, int]]] = {}
        self.blind = False  # damage hit what counts, or what says that something is gone
        self.start()

    # --- lives ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The next boot, again and again until one isn't cut short."""
        while True:
            self.boot += 1
            self.seq = 0
            self.outbox = Outbox(self.storage, self.limits)
            try:
                self.outbox.load()
                break
            except PowerCut:
                self.storage = self.storage.restart()
            except OSError:  # of load's own sync: the board starts again
                self.storage = self.storage.restart(power_lost=False)
        self.adopt()

    def perform(self, operation: Callable[[], Any]) -> Any:
        """The operation's result; None when the power went meanwhile and the board started anew."""
        try:
            return operation()
        except PowerCut:
            self.storage = self.storage.restart()
            self.start()
            return None

    def adopt(self) -> None:
        """What an interrupted operation left is as good as stored now, or as good as never done."""
        sealed, pending = self.sealed_now(), self.pending_now()
        for name, envelope in sealed.items():
            reading = int(envelope[10:18])
            if name not in self.sealed and reading not in self.hurt:
                self.sealed[name] = reading  # sealed as the power went, or acked and the ack lost
                self.was_sealed.add(reading)
                self.pending.discard(reading)
        self.pending |= pending.keys() - self.hurt - self.was_sealed
        self.settle_losses()
        if self.faults >= {"sync", "room"}:
            # Room is made on a full flash by giving up a segment first and counting it after. When that
            # count's own sync fails too, and the board dies before the next one, the count is behind.
            while len(self.lost) > self.outbox.dropped:
                self.lost.pop()

    def settle_losses(self) -> None:
        gone = self.pending - self.pending_now().keys()
        self.lost |= gone - self.hurt
        self.pending -= gone

    @rule(power_lost=st.booleans())
    def restart(self, power_lost: bool) -> None:
        self.storage = self.storage.restart(power_lost)
        self.start()

    @rule(limits=st.sampled_from(LIMITS))
    def reopen_with_other_limits(self, limits: Limits) -> None:
        def close() -> bool:
            try:
                self.outbox.close()
            except OSError:
                pass  # a failed sync: the next start reads what is there
            return True

        if self.perform(close):
            self.storage = self.storage.restart(power_lost=False)
            old, self.limits = self.limits, limits
            if limits.entries_max < self.outbox.pending or limits.bytes_max < old.bytes_max:
                self.limits = old  # a board is never given less room than it has filled
            self.start()

    @rule(after=st.integers(1, 30))
    def power_goes_soon(self, after: int) -> None:
        self.storage.cut_at = self.storage.steps + after

    @rule(after=st.integers(1, 10))
    def a_sync_fails_soon(self, after: int) -> None:
        self.storage.fail_sync_at = self.storage.steps + after
        self.faults.add("sync")

    @rule(room=st.sampled_from([0, 1, 500, 9_000, 1 << 30]))
    def file_system_has_room(self, room: int) -> None:
        self.storage.capacity = self.storage.used() + room
        self.faults.add("room")

    # --- the app ----------------------------------------------------------------------------------------

    def new_reading(self, size: int) -> tuple[int, bytes]:
        self.readings += 1
        body = b"%08d" % self.readings + bytes(size - 8)
        self.bodies[self.readings] = body
        return self.readings, body

    @rule(size=sizes, count=st.integers(1, 12))
    def put(self, size: int, count: int) -> None:
        for _ in range(count):
            reading, body = self.new_reading(size)
            before = self.outbox.dropped
            try:
                if self.perform(lambda body=body: self.outbox.put_pending(body)) is not None:
                    self.pending.add(reading)
            except OutboxFull:
                assert self.outbox.dropped > before, "refused without being counted"
            self.settle_losses()

    def seal(self, reading: int, body: bytes, number: int | None) -> None:
        name = (self.boot, self.seq)
        envelope = b"%04d%06d" % name + body
        self.seq += 1
        assert name not in self.envelopes, "a name is given out twice"
        self.envelopes[name] = envelope
        try:
            done = self.perform(lambda: self.outbox.add_sealed(*name, envelope, number) or True)
        except OutboxFull:
            assert self.outbox.held[:3] == (*name, envelope)
            return
        if done:
            assert self.outbox.last_sealed == name
            self.stored_sealed(name, reading)

    def stored_sealed(self, name: tuple[int, int], reading: int) -> None:
        self.sealed[name] = reading
        self.was_sealed.add(reading)
        self.pending.discard(reading)
        self.settle_losses()

    @rule(size=sizes)
    def seal_fresh(self, size: int) -> None:
        if self.outbox.window_open:
            self.seal(*self.new_reading(size), None)

    @rule(count=st.integers(1, 6))
    def seal_pending(self, count: int) -> None:
        for _ in range(count):
            found = self.perform(self.outbox.next_pending)
            if not found or not self.outbox.window_open:
                return
            number, body = found
            reading = int(body[:8])
            assert body == self.bodies[reading]
            assert reading == min(self.pending_now()), "not the oldest"
            self.seal(reading, body, number)

    @precondition(lambda self: self.outbox.held is not None)
    @rule()
    def retry(self) -> None:
        boot, seq, envelope, _ = self.outbox.held
        try:
            done = self.perform(lambda: self.outbox.retry() or True)
        except OutboxFull:
            assert self.outbox.held[:3] == (boot, seq, envelope)
            return
        if done:
            self.stored_sealed((boot, seq), int(envelope[10:18]))

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        """What a gateway has: any ranges of any boot, of names that were and were not given out."""
        boot = data.draw(st.integers(max(0, self.boot - 2), self.boot + 1))
        bound = st.integers(0, 40) | st.just(2**32 - 1)
        ranges = data.draw(st.lists(st.tuples(bound, bound).map(sorted), max_size=3))
        acked = {
            name
            for name in self.sealed
            if name[0] == boot and any(first <= name[1] <= last for first, last in ranges)
        }
        for name in acked:
            self.acked.add(self.sealed.pop(name))  # the gateway has it whatever becomes of the ack
        self.perform(lambda: self.outbox.ack(boot, ranges))
        self.settle_losses()

    # --- damage -----------------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.storage.files))
    @rule(data=st.data())
    def a_byte_turns(self, data: st.DataObject) -> None:
        """On flash, while the board is off: what lies elsewhere is served, and nothing crashes."""
        name = data.draw(st.sampled_from(sorted(self.storage.files)))
        content = self.storage.files[name].now
        if not content:
            return
        place = data.draw(st.integers(0, len(content) - 1))
        before = bytearray(content)
        for turned, bits in self.turned.get(name, []):
            if turned < len(before):
                before[turned] ^= bits  # so that a record that was damaged earlier is known for what it was
        for kind, start, end in self.records(bytes(before)):
            if start <= place < end:
                if kind in (PENDING, SEALED):
                    self.hurt |= self.reading_of(bytes(before[start:end]), kind)
                else:
                    self.blind = True  # an ack, a thinning or a counter is forgotten
        bits = data.draw(st.integers(1, 255))
        content[place] ^= bits
        inode = self.storage.files[name]
        if place < len(inode.durable):
            inode.durable = (
                inode.durable[:place] + bytes([inode.durable[place] ^ bits]) + inode.durable[place + 1 :]
            )
        self.turned.setdefault(name, []).append((place, bits))
        self.storage = self.storage.restart(power_lost=False)
        self.damages += 1
        for reading in self.hurt:
            self.pending.discard(reading)
        self.sealed = {name: reading for name, reading in self.sealed.items() if reading not in self.hurt}
        self.start()

    @staticmethod
    def records(content: bytes) -> list[tuple[int, int, int]]:
        """(kind, start, end) of the records, as far as their headers lead."""
        found, start = [], 0
        while start + HEADER.size <= len(content):
            magic, kind, length, _, _ = HEADER.unpack_from(content, start)
            end = start + HEADER.size + length
            if magic != 0x5367 or end > len(content):
                break
            found.append((kind, start, end))
            start = end
        return found

    @staticmethod
    def reading_of(record: bytes, kind: int) -> set[int]:
        body = record[HEADER.size :]
        digits = body[18:26] if kind == SEALED else body[:8]
        return {int(digits)} if digits.isdigit() else set()

    # --- what must hold ---------------------------------------------------------------------------------

    def sealed_now(self) -> dict[tuple[int, int], bytes]:
        found: dict[tuple[int, int], bytes] = {}
        for boot, seq, envelope in self.outbox.unacked():
            assert not found or (boot, seq) > max(found), "not oldest first"
            found[boot, seq] = bytes(envelope)
        return found

    def pending_now(self) -> dict[int, bytes]:
        index = self.outbox._pending
        found: dict[int, bytes] = {}
        for place in range(index.count):
            number, segment, offset, length = index.row(place)
            body = self.outbox._log.read(segment, offset, number)
            assert body is not None
            assert len(body) == length
            reading = int(body[:8])
            assert reading not in found, "a reading is there twice"
            found[reading] = bytes(body)
        return found

    @invariant()
    def nothing_stored_is_lost_or_changed(self) -> None:
        self.settle_losses()
        sealed, pending = self.sealed_now(), self.pending_now()
        for name, envelope in sealed.items():
            assert envelope == self.envelopes[name], "equivocation"
        for reading, body in pending.items():
            assert body == self.bodies[reading]
        assert list(pending) == sorted(pending), "not in the order in which they came"
        assert self.sealed.keys() <= sealed.keys(), "a sealed report is gone"
        twice = pending.keys() & {int(envelope[10:18]) for envelope in sealed.values()}
        assert not twice - self.hurt, "both pending and sealed"
        if not self.blind:
            assert not (pending.keys() & self.was_sealed) - self.hurt, "a reading got a second life"
            assert len(self.lost) <= self.outbox.dropped, "given up without being counted"
            if self.envelopes and self.sealed:
                assert self.outbox.last_sealed >= max(self.sealed), "prev_next_seq would be wrong"
        if not self.damages:
            assert self.outbox.damaged == 0, "no byte turned, and damage is counted"

    @invariant()
    def it_is_bounded(self) -> None:
        assert self.storage.used() <= self.limits.bytes_max
        assert len(self.storage.files) <= self.limits.bytes_max // SEGMENT_BYTES
        assert self.outbox.pending <= self.limits.entries_max
        live = sum(
            HEADER.size + row[3]
            for index in (self.outbox._pending, self.outbox._sealed)
            for row in (index.row(place) for place in range(index.count))
        )
        assert self.outbox.bytes == live


OutboxMachine.TestCase.settings = settings(max_examples=settings().max_examples, stateful_step_count=50)
TestOutboxMachine = pytest.mark.threat(5)(OutboxMachine.TestCase)
