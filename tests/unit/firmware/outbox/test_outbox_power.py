"""The outbox under power loss at any operation: no reading lost or doubled, no (boot, seq) with two contents."""

import random

import pytest
from power_storage import PowerCut, PowerStorage
from surge_device.errors import OutboxFull
from surge_device.outbox import Limits, Outbox

LIMITS = Limits(bytes_max=10 * 8400, segment_bytes=8400, entries_max=40, in_flight_max=6)


class World:
    """What an outside observer knows: readings handed over, envelopes seen on the wire, acks given."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.storage = PowerStorage(seed)
        self.boot = 0
        self.next_reading = 0
        self.stored = set()  # put_pending or add_sealed returned
        self.maybe = set()  # handed over, cut or refused before it returned
        self.wire = {}  # (boot, seq) -> envelope
        self.sealed_as = {}  # reading -> (boot, seq) seen on the wire
        self.acked = set()  # readings that a gateway has
        self.dropped = 0

    def start(self):
        self.boot += 1
        self.seq = 0
        self.outbox = Outbox(self.storage, LIMITS)
        self.outbox.load()
        self.check_after_load()

    def reading(self):
        self.next_reading += 1
        return self.next_reading, b"%08d" % self.next_reading + bytes(self.random.randrange(1, 700))

    def envelope(self, body):
        return b"%04d%06d" % (self.boot, self.seq) + body

    def do_put(self):
        reading, body = self.reading()
        self.maybe.add(reading)
        try:
            self.outbox.put_pending(body)
        except OutboxFull:
            return
        self.maybe.discard(reading)
        self.stored.add(reading)

    def do_seal_fresh(self):
        if self.outbox.window_open:
            reading, body = self.reading()
            self.seal(reading, self.envelope(body), None)

    def do_seal_pending(self):
        found = self.outbox.next_pending()
        if self.outbox.window_open and found:
            self.seal(int(found[1][:8]), self.envelope(found[1]), found[0])

    def seal(self, reading, envelope, number):
        if number is None:
            self.maybe.add(reading)
        seq, self.seq = self.seq, self.seq + 1
        try:
            self.outbox.add_sealed(self.boot, seq, envelope, number)
        except OutboxFull:
            assert self.outbox.held[:3] == (self.boot, seq, envelope)
            return
        self.maybe.discard(reading)
        self.stored.add(reading)
        assert self.outbox.last_sealed == (self.boot, seq)

    def do_retry(self):
        if self.outbox.held:
            reading = int(self.outbox.held[2][10:18])
            try:
                self.outbox.retry()
            except OutboxFull:
                return
            self.maybe.discard(reading)
            self.stored.add(reading)

    def do_send(self):
        last = (-1, -1)
        for boot, seq, envelope in self.outbox.unacked():
            assert (boot, seq) > last, "oldest first"
            last = (boot, seq)
            self.send(boot, seq, envelope)

    def send(self, boot, seq, envelope):
        assert envelope[:10] == b"%04d%06d" % (boot, seq)
        assert self.wire.setdefault((boot, seq), envelope) == envelope, "equivocation"
        reading = int(envelope[10:18])
        assert self.sealed_as.setdefault(reading, (boot, seq)) == (boot, seq), "a reading lived twice"

    def do_ack(self):
        sent = sorted(self.wire)
        if sent:
            boot, seq = self.random.choice(sent)
            first = self.random.choice([0, seq])
            for key in sent:
                if key[0] == boot and first <= key[1] <= seq:
                    self.acked.add(int(self.wire[key][10:18]))
            self.outbox.ack(boot, [[first, seq]])

    def present(self):
        """The readings in the outbox, each once."""
        readings = [int(envelope[10:18]) for _, _, envelope in self.outbox.unacked()]
        index = self.outbox._pending
        for place in range(index.count):
            number, segment, offset, length = index.row(place)
            body = self.outbox._log.read(segment, offset, number)
            assert body is not None
            assert len(body) == length
            readings.append(int(body[:8]))
        assert len(readings) == len(set(readings)), "a reading is there twice"
        assert len(readings) == len(self.outbox)
        return set(readings)

    def check_after_load(self):
        present = self.present()
        lost = self.stored - present - self.acked
        assert len(lost) <= self.outbox.dropped, "lost without being counted"
        assert not lost & set(self.sealed_as), "a sealed report was lost"
        assert present <= self.stored | self.maybe
        assert self.outbox.damaged == 0, "a power cut counted as damage"
        if self.wire:
            assert self.outbox.last_sealed >= max(self.wire), "prev_next_seq would be wrong"
        self.do_send()

    def run(self, steps):
        actions = [self.do_put] * 4 + [self.do_seal_fresh] * 3 + [self.do_seal_pending] * 4
        actions += [self.do_send] * 2 + [self.do_ack] * 3 + [self.do_retry]
        for _ in range(steps):
            self.random.choice(actions)()


@pytest.mark.parametrize("seed", range(30))
def test_power_cut_at_any_operation_loses_and_doubles_nothing(seed):
    """Threat 5, on the device: each life is cut at a random operation, then the next one starts on what is left."""
    world = World(seed)
    for _ in range(12):
        world.storage.cut_at = world.random.randrange(1, 400)
        try:
            world.start()
            world.run(500)
        except PowerCut:
            pass
        world.storage = world.storage.restart(power_lost=world.random.random() < 0.8)
    world.start()
    assert len(world.wire) > 20


def test_every_operation_of_one_life_is_cut_in_turn():
    """The same short life, cut at its first operation, its second, and so on to the end."""
    cut = 0
    while True:
        cut += 1
        world = World(7)
        world.storage.cut_at = cut
        try:
            world.start()
            world.run(60)
        except PowerCut:
            pass
        else:
            break
        world.storage = world.storage.restart()
        world.start()
        world.run(20)
    assert cut > 100


@pytest.mark.parametrize("seed", range(12))
def test_full_file_system_is_an_answer_and_not_a_crash_and_heals_when_space_returns(seed):
    """Threat 15, on the device."""
    world = World(seed)
    world.start()
    world.run(60)
    for capacity in (world.storage.used() + 500, world.storage.used() // 2, 0, 1 << 30):
        world.storage.capacity = capacity
        world.run(150)
    world.do_retry()
    assert world.outbox.held is None
    before = len(world.outbox)
    while len(world.outbox) and (world.outbox.in_flight or world.outbox.pending):
        world.do_seal_pending()
        world.do_send()
        for boot in range(world.boot + 1):
            for key in [key for key in world.wire if key[0] == boot]:
                world.acked.add(int(world.wire[key][10:18]))
            world.outbox.ack(boot, [[0, 1 << 30]])
    assert before >= 0
    assert not world.stored - world.acked or world.outbox.dropped >= len(world.stored - world.acked)
    world.do_put()
    assert world.outbox.pending == 1


@pytest.mark.parametrize("seed", range(20))
def test_failed_sync_then_power_cut_never_gives_a_reading_a_second_life(seed):
    """Threats 1 and 15: after a failed fsync the record's fate is unknown; only the same bytes may take its place."""
    world = World(seed)
    for _ in range(6):
        world.storage.cut_at = world.random.randrange(150, 500)
        world.storage.fail_sync_at = world.random.randrange(5, 150)
        try:
            world.start()
            world.run(400)
        except PowerCut:
            pass
        except OSError as error:
            assert error.args[0] == 5  # load's own sync: the board starts again
        world.storage = world.storage.restart()
    world.start()
