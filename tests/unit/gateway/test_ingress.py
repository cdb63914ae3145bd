"""What is refused, and why; what is dropped; what is handed on (threats 17, 18 and 19)."""

import pytest
from gateway_clock import FakeClock
from gateway_reports import Device, make_device

from surge_gateway import counters as reasons
from surge_gateway.counters import Counters
from surge_gateway.devices import Devices
from surge_gateway.ingress import REPEATS_REMEMBERED_MAX, Ingress
from surge_gateway.quota import Quota
from surge_wire.cose import seal_mac0


class Rig:
    def __init__(self, burst: int = 100, pending_len_max: int = 1 << 20) -> None:
        self.clock = FakeClock()
        self.counters = Counters()
        self.devices = Devices(burst)
        self.device = make_device(1)
        self.devices.enrol(self.device.device_id)
        self.work = 0
        self.ingress = Ingress(
            self.devices,
            Quota(10, burst),
            self.clock,
            self.counters,
            report_len_max=4096,
            pending_len_max=pending_len_max,
        )
        self.ingress.on_work = self._count_work

    def _count_work(self) -> None:
        self.work += 1

    def publish(self, payload: bytes, topic: str = "", retained: bool = False) -> None:
        self.ingress.on_message(topic or self.device.topic, payload, retained)

    def taken(self) -> list[bytes]:
        return [report for _, report in self.ingress.take_group().records]

    def store(self) -> None:
        """What commit does when an fsync covers the group."""
        for _device, seqs, seq in self.ingress.take_group().owners:
            seqs.note_durable(seq)
        self.ingress.held_len = 0

    def refused(self) -> dict[str, int]:
        return {reason: count for reason, count in self.counters.refused.items() if count}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_hands_on_a_report_byte_for_byte(rig: Rig) -> None:
    report = rig.device.report()
    rig.publish(report)
    assert rig.work == 1
    assert rig.taken() == [report]
    assert rig.refused() == {}


@pytest.mark.threat(17)
def test_refuses_a_report_whose_envelope_names_another_device(rig: Rig) -> None:
    other = make_device(2)
    rig.devices.enrol(other.device_id)
    rig.publish(other.report(), rig.device.topic)
    assert rig.refused() == {reasons.ID_MISMATCH: 1}
    assert rig.taken() == []


@pytest.mark.threat(17)
@pytest.mark.parametrize(
    "topic",
    [
        "surge/1/+/report",
        "surge/1/#",
        "$SYS/broker",
        "surge/1/d*/report",
        "surge/1/>/report",
        "surge/1//report",
        "surge/1/daaaaaaaaaaaaaaaa/report/x",
        "surge/2/daaaaaaaaaaaaaaaa/report",
        "",
    ],
)
def test_refuses_topics_that_are_not_ours(rig: Rig, topic: str) -> None:
    rig.ingress.on_message(topic, rig.device.report(), False)
    assert rig.refused() == {reasons.TOPIC_INVALID: 1}


def test_refuses_a_device_that_is_not_enrolled(rig: Rig) -> None:
    stranger = make_device(3)
    rig.publish(stranger.report(), stranger.topic)
    assert rig.refused() == {reasons.UNKNOWN_DEVICE: 1}
    rig.devices.remove(rig.device.device_id)
    rig.publish(rig.device.report())
    assert rig.refused() == {reasons.UNKNOWN_DEVICE: 2}


@pytest.mark.threat(17)
def test_refuses_a_retained_report_and_takes_retained_states(rig: Rig) -> None:
    rig.publish(rig.device.report(), retained=True)
    assert rig.refused() == {reasons.RETAINED: 1}
    rig.publish(b"online", f"surge/1/{rig.device.device_id}/state", retained=True)
    assert rig.devices.find(rig.device.device_id).online
    rig.publish(b"offline", f"surge/1/{rig.device.device_id}/state")
    assert not rig.devices.find(rig.device.device_id).online


BOMBS = [
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # an array of 2^64 - 1
    b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",  # a byte string of 2^63 - 1
    b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",  # a map of as many
    b"\x81" * 3000,  # depth
    b"\xa2\x01\x01\x01\x02",  # a key twice
    b"\x5f\x41a\x41b\xff",  # indefinite string
    b"\x9f" * 1000 + b"\xff" * 1000,
    b"\xc2\x5a\xff\xff\xff\xff",  # a big number
    b"\xd8\x1c\x81\xd8\x1d\x00",  # a shared, cyclic value
    b"",
]


@pytest.mark.threat(19)
@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_refuses_cbor_bombs_in_a_good_envelope_and_bare(rig: Rig, bomb: bytes) -> None:
    rig.publish(seal_mac0(rig.device.device_id, rig.device.key, bomb, 4096))
    rig.publish(bomb)
    assert rig.refused() == {reasons.MALFORMED: 2}
    assert rig.taken() == []


def test_refuses_what_is_too_long(rig: Rig) -> None:
    rig.publish(rig.device.report() + bytes(4096))
    assert rig.refused() == {reasons.TOO_LONG: 1}


@pytest.mark.threat(19)
def test_every_truncation_and_flip_is_taken_or_refused_and_raises_nothing(rig: Rig) -> None:
    rig = Rig(burst=10_000)
    report = rig.device.report()
    for at in range(len(report)):
        rig.publish(report[:at])
        for bit in (0x01, 0x80):
            rig.publish(report[:at] + bytes([report[at] ^ bit]) + report[at + 1 :])
    assert rig.counters.received == 3 * len(report)
    taken = len(rig.taken())
    assert taken + sum(rig.refused().values()) + rig.counters.duplicates == 3 * len(report)
    assert set(rig.refused()) <= {reasons.MALFORMED, reasons.ID_MISMATCH}


@pytest.mark.threat(18)
def test_quota_refuses_a_flood_and_refills_up_to_the_burst() -> None:
    """What it does to others shows in ``test_commit``."""
    rig = Rig(burst=5)
    for _ in range(20):
        rig.publish(rig.device.report())
    assert rig.refused() == {reasons.OVER_QUOTA: 15}
    assert len(rig.taken()) == 5
    rig.clock.advance(0.2)  # two tokens at 10 a second
    for _ in range(3):
        rig.publish(rig.device.report())
    assert len(rig.taken()) == 2
    rig.clock.advance(1000)
    for _ in range(20):
        rig.publish(rig.device.report())
    assert len(rig.taken()) == 5  # the burst, however long the pause


def test_a_duplicate_is_not_stored_again_and_acknowledged_once_it_is_durable(rig: Rig) -> None:
    report = rig.device.report()
    rig.publish(report)
    rig.publish(report)
    assert rig.ingress.acks_wanted == {}  # not durable yet
    rig.store()
    rig.publish(report)
    assert rig.taken() == []
    assert list(rig.ingress.acks_wanted.values()) == [[0]]
    assert rig.counters.duplicates == 2


@pytest.mark.threat(1)
def test_a_known_seq_with_other_bytes_is_forwarded_as_evidence(rig: Rig) -> None:
    clone = Device(rig.device.device_id, rig.device.key)
    first, second = rig.device.report(20.0), clone.report(21.0)
    rig.publish(first)
    rig.publish(second)
    assert rig.taken() == [first, second]
    assert rig.counters.conflicting == 1


def test_refuses_beyond_the_bound_of_what_waits_for_the_disk() -> None:
    rig = Rig(pending_len_max=1000)
    for _ in range(20):
        rig.publish(rig.device.report())
    assert rig.refused()[reasons.SPOOL_BUSY] > 10
    refused = rig.device.made[-1]
    rig.store()
    rig.publish(refused)  # the device sends it again, and nothing remembers it as seen
    assert rig.taken() == [refused]


def test_refuses_all_while_told_to(rig: Rig) -> None:
    rig.ingress.refuse_all = reasons.STOPPING
    rig.publish(rig.device.report())
    assert rig.refused() == {reasons.STOPPING: 1}


@pytest.mark.threat(18)
def test_repeated_reports_take_no_more_memory_while_the_disk_hangs() -> None:
    rig = Rig(burst=10_000)
    report = rig.device.report()
    rig.publish(report)
    rig.store()
    for _ in range(5_000):
        rig.publish(report)
    assert sum(len(seqs) for seqs in rig.ingress.acks_wanted.values()) == REPEATS_REMEMBERED_MAX
    assert rig.counters.duplicates == 5_000
