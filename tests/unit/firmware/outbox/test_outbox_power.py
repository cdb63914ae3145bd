"""The outbox under power loss at any operation: no reading lost or doubled, no (boot, seq) with two
contents."""

import random

import pytest
from power_storage import PowerCut, PowerStorage

from surge_device.errors import OutboxFull
from surge_device.outbox import Limits, Outbox

BY_COUNT = Limits(bytes_max=10 * 8400, segment_bytes=8400, entries_max=40, in_flight_max=6)
BY_BYTES = Limits(bytes_max=7 * 8400, segment_bytes=8400, entries_max=300, in_flight_max=16)
LIMITS = [BY_COUNT, BY_BYTES]


class World:
    """What an outside observer knows: readings handed over, envelopes seen on the wire, acks given."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.limits = LIMITS[seed % 2]
        self.storage = PowerStorage(seed)
        self.boot = 0
        self.next_reading = 0
        self.stored = set()  # put_pending or add_sealed returned
        self.maybe = set()  # handed over, cut or refused before it returned
        self.wire = {}  # (boot, seq) -> envelope
        self.sealed_as = {}  # reading -> (boot, seq) seen on the wire
        self.acked = set()  # readings that a gateway has
        self.refused = 0  # put_pending answered OutboxFull

    def start(self):
        self.boot += 1
        self.seq = 0
        self.outbox = Outbox(self.storage, self.limits)
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
        for _ in range(self.random.choice([1, 3])):  # an app may offer a refused reading again
            try:
                self.outbox.put_pending(body)
            except OutboxFull:
                self.refused += 1
                continue
            self.maybe.discard(reading)
            self.stored.add(reading)
            return

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


@pytest.mark.threat(5)
@pytest.mark.parametrize("seed", range(30))
def test_power_cut_at_any_operation_loses_and_doubles_nothing(seed):
    """Threat 5, on the device: each life is cut at a random operation, then the next one starts on what is
    left."""
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


def cut_in_turn(seed, restarts):
    """A short life, cut at its first operation, at its second, and so on to the end; then ``restarts`` in a
    row."""
    cut = 0
    while True:
        cut += 1
        world = World(seed)
        world.storage.cut_at = cut
        try:
            world.start()
            world.run(60)
        except PowerCut:
            pass
        else:
            return cut
        for power_lost in restarts:
            world.storage = world.storage.restart(power_lost)
            world.start()
        world.run(20)


@pytest.mark.threat(5)
def test_every_operation_of_one_life_is_cut_in_turn():
    assert cut_in_turn(7, [True]) > 50


@pytest.mark.threat(5)
def test_every_operation_of_one_life_is_killed_in_turn_and_the_next_loses_power_at_once():
    """What a dead process left unsynced is relied on, and sent, only once it is durable."""
    assert cut_in_turn(9, [False, True]) > 50


@pytest.mark.parametrize("seed", range(12))
def test_without_faults_every_reading_is_present_acked_or_counted(seed):
    world = World(seed)
    world.start()
    for _ in range(40):
        world.run(60)
        assert len(world.stored - world.present() - world.acked) + world.refused == world.outbox.dropped


@pytest.mark.threat(15)
@pytest.mark.parametrize("seed", range(12))
def test_full_file_system_is_an_answer_and_not_a_crash_and_heals_when_space_returns(seed):
    """Threat 15, on the device."""
    world = World(seed)
    world.start()
    world.run(60)
    for capacity in (world.storage.used() + 500, world.storage.used() // 2, 0, 1 << 30):
        world.storage.capacity = capacity
        world.run(150)
        lost = world.stored - world.present() - world.acked
        assert len(lost) + world.refused == world.outbox.dropped
        assert len(world.outbox._log.segments) <= world.limits.bytes_max // world.limits.segment_bytes
    assert world.refused
    world.do_retry()
    assert world.outbox.held is None
    while len(world.outbox):
        world.do_seal_pending()
        world.do_send()
        world.acked |= set(world.sealed_as)
        world.outbox.ack(world.boot, [[0, 1 << 30]])
    world.do_put()
    assert world.outbox.pending == 1


@pytest.mark.threat(5)
@pytest.mark.threat(15)
@pytest.mark.parametrize("seed", range(20))
def test_failed_sync_then_power_cut_never_gives_a_reading_a_second_life(seed):
    """Threats 1 and 15: after a failed fsync the record's fate is unknown; only the same bytes may take its
    place."""
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
