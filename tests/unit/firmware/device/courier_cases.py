"""Cases of the courier: what acks delete, what is sent again and when, and links that come and go."""

from device_world import DEVICE, NOON_MS, Alarm, Client, World, clean_up, play  # noqa: F401

from surge_device.courier import RETRY_MAX_MS, RETRY_MIN_MS, WAKE_MS, Courier
from surge_device.outbox_limits import Limits
from surge_wire.ack import Ack, encode_ack
from surge_wire.limits import ACK_LEN_MAX
from surge_wire.topics import ACK, COMMAND, REPORT, STATE, topic

REPORT_TOPIC = topic(DEVICE, REPORT)
ACK_TOPIC = topic(DEVICE, ACK)
STATE_TOPIC = topic(DEVICE, STATE)
ONLINE = (STATE_TOPIC, b"online", 1, True)
WIDE = Limits(bytes_max=6 * 8400, segment_bytes=8400, entries_max=8, in_flight_max=16)


class Post:
    """A world with a courier and a link."""

    def __init__(self, folder, limits=WIDE):
        self.world = World(folder, limits)
        self.connect()

    def connect(self):
        world = self.world
        self.alarm = Alarm(world)
        self.client = Client()
        self.courier = Courier(
            DEVICE, world.outbox, world.sealer, world.clock, world.commands, self.alarm, world.log
        )
        self.courier.attach(self.client)
        self.signs = 0

    def alive(self):
        self.signs += 1

    def run(self, duration_ms):
        """Let the courier work at once and then for so long; what it published."""
        self.alarm.ring()
        self.alarm.stop_ms = self.world.ticks + duration_ms
        play(self.courier.run(self.alive))
        return self.client.take()

    def seqs(self, duration_ms):
        """The same, as seqs; it published nothing but reports."""
        return self.names(self.run(duration_ms))

    def names(self, published):
        known = {envelope: seq for _, seq, envelope in self.world.envelopes()}
        known.update(self.gone)
        for sent_topic, _, qos, retain in published:
            assert (sent_topic, qos, retain) == (REPORT_TOPIC, 0, False)
        return [known[payload] for _, payload, _, _ in published]

    gone = {}  # noqa: RUF012 - envelopes that were acked

    def ack(self, *ranges, boot=1, time_ms=NOON_MS):
        self.gone = dict(self.gone)
        for _, seq, envelope in self.world.envelopes():
            self.gone[envelope] = seq
        self.hear(ACK_TOPIC, encode_ack(Ack(boot, list(ranges), time_ms)))

    def hear(self, message_topic, payload):
        self.courier.on_message(message_topic, memoryview(payload), False)

    def waiting(self):
        return [seq for _, seq, _ in self.world.envelopes()]


def case_a_new_link_says_online_and_sends_all_that_waits_oldest_first(folder):
    post = Post(folder)
    for _ in range(3):
        post.world.read()
    post.courier.on_link(True, None)
    published = post.run(WAKE_MS)
    assert published[0] == ONLINE
    assert post.names(published[1:]) == [0, 1, 2]
    assert post.courier.sent == 3
    assert post.seqs(2000) == []
    post.world.read()
    post.courier.wake()
    assert post.seqs(0) == [3]


def case_an_ack_deletes_exactly_what_it_covers(folder):
    post = Post(folder)
    for _ in range(8):
        post.world.read()
    post.ack((1, 2), (5, 5), (9, 40))
    assert post.waiting() == [0, 3, 4, 6, 7]
    post.ack((0, 100), boot=2)
    assert post.waiting() == [0, 3, 4, 6, 7]
    post.ack((0, 6))
    assert post.waiting() == [7]
    assert post.courier.acked == 7
    assert post.courier.refused == 0


def case_an_ack_brings_the_time_even_when_it_covers_nothing(folder):
    post = Post(folder)
    post.ack((0, 0))
    assert post.world.clock.now_ms() == NOON_MS
    post.ack((0, 0), time_ms=5)
    assert post.world.clock.refused == 1


def case_garbage_on_the_ack_topic_is_counted_and_changes_nothing(folder):
    post = Post(folder)
    for _ in range(3):
        post.world.read()
    good = encode_ack(Ack(1, [(0, 2)], NOON_MS))
    wrong = [good[:cut] for cut in range(len(good))]
    wrong += [good + b"\0", bytes(ACK_LEN_MAX), bytes(ACK_LEN_MAX + 1), bytes(4096), b"\xff" * 40]
    for payload in wrong:
        post.hear(ACK_TOPIC, payload)
    post.hear(topic(DEVICE, STATE), b"online")
    assert post.courier.refused == len(wrong) + 1
    assert post.waiting() == [0, 1, 2]
    assert post.world.clock.now_ms() is None


def case_commands_are_handed_over_as_bytes(folder):
    post = Post(folder)
    post.hear(topic(DEVICE, COMMAND), b"envelope")
    assert post.world.commands.taken == [(b"envelope", False)]
    assert type(post.world.commands.taken[0][0]) is bytes


def case_what_is_not_acked_is_sent_again_after_growing_pauses(folder):
    post = Post(folder)
    for _ in range(2):
        post.world.read()
    before = post.world.envelopes()
    assert post.seqs(0) == [0, 1]
    pauses, payloads = [], set()
    last_ms = post.world.ticks
    while len(pauses) < 7:
        published = post.run(WAKE_MS)
        if published:
            assert post.names(published) == [0, 1]
            payloads.update([payload for _, payload, _, _ in published])
            pauses.append(post.world.ticks - last_ms)
            last_ms = post.world.ticks
    expected = [min(RETRY_MIN_MS << count, RETRY_MAX_MS) for count in range(7)]
    for pause, least in zip(pauses, expected):  # noqa: B905
        assert least <= pause <= least + 2 * WAKE_MS, pauses
    assert payloads == {envelope for _, _, envelope in before}
    assert post.world.envelopes() == before


def case_ack_progress_makes_the_pause_short_again(folder):
    post = Post(folder)
    for _ in range(3):
        post.world.read()
    post.run(5 * RETRY_MAX_MS)  # the gateway is away
    post.ack((0, 0))  # and back
    assert post.seqs(RETRY_MIN_MS + WAKE_MS) == [1, 2]
    post.ack((7, 7))  # covers nothing: no progress
    assert post.seqs(RETRY_MIN_MS) == []
    assert post.seqs(2 * RETRY_MIN_MS) == [1, 2]


def case_one_lost_report_is_sent_again_while_others_flow(folder):
    """New reports must not postpone the repetition, nor be repeated with it."""
    post = Post(folder)
    post.world.read()
    assert post.seqs(0) == [0]
    sent = []
    for seq in range(1, 31):  # one a second; each is acked at once, but 0 is lost on its way
        post.world.read()
        post.courier.wake()
        sent += post.seqs(1000)
        post.ack((1, seq))
    assert post.waiting() == [0]
    assert sent.count(0) >= 3, sent
    assert [seq for seq in sent if seq] == list(range(1, 31))
    post.ack((0, 30))
    assert post.seqs(RETRY_MAX_MS * 2) == []


def case_a_lost_ack_costs_one_repetition(folder):
    post = Post(folder)
    post.world.read()
    assert post.seqs(RETRY_MIN_MS - WAKE_MS) == [0]
    assert post.seqs(2 * WAKE_MS) == [0]
    post.ack((0, 0))  # to the repetition
    assert post.seqs(3 * RETRY_MAX_MS) == []


def case_a_link_that_drops_in_the_middle_loses_nothing(folder):
    post = Post(folder)
    for _ in range(5):
        post.world.read()
    post.client.lost_after = 2
    assert post.seqs(0) == [0, 1]
    post.client.linked = False
    post.courier.on_link(False, None)
    assert post.run(10000) == []
    assert post.signs > 5
    post.client.linked, post.client.lost_after = True, 0
    post.courier.on_link(True, None)
    assert post.run(0) == []  # lost again, while it says online
    post.client.lost_after = None
    post.courier.on_link(True, None)
    published = post.run(0)
    assert published[0] == ONLINE
    assert post.names(published[1:]) == [0, 1, 2, 3, 4]


def case_reports_of_earlier_boots_go_first_under_their_old_names(folder):
    post = Post(folder)
    for _ in range(3):
        post.world.read()
    old = post.world.envelopes()
    post.world = post.world.again()
    post.connect()
    post.world.read()
    published = post.run(0)
    assert [payload for _, payload, _, _ in published[:3]] == [envelope for _, _, envelope in old]
    assert len(published) == 4
    post.ack((0, 2))
    assert [boot for boot, _, _ in post.world.envelopes()] == [2]
    assert post.courier.acked == 3


def case_acks_open_the_window_for_what_waits(folder):
    post = Post(folder, Limits(6 * 8400, 8400, 8, 4))
    for _ in range(9):
        post.world.read()
    assert post.seqs(0) == [0, 1, 2, 3]
    post.ack((0, 2))
    assert post.alarm.rung
    assert post.seqs(0) == [4, 5, 6]
    post.ack((3, 6))
    assert post.seqs(0) == [7, 8]


def case_goodbye_is_said_on_a_link_and_a_broken_one_is_no_error(folder):
    post = Post(folder)
    play(post.courier.say_goodbye())
    assert post.client.take() == [(STATE_TOPIC, b"offline", 1, True)]
    post.client.lost_after = 0
    play(post.courier.say_goodbye())
    post.client.linked = False
    play(post.courier.say_goodbye())
    assert post.client.take() == []
    assert post.courier.will() == (STATE_TOPIC, b"offline", 1, True)
    assert post.courier.subscriptions() == ((ACK_TOPIC, 0), (topic(DEVICE, COMMAND), 1))
