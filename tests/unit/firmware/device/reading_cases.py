"""Cases of a waiting reading: its bytes, its time when that was learnt later, and what fits into a report."""

from device_world import DEVICE, NOON_MS, SECRET
from expect import raises

from surge_device.clock import SOURCE_ACK, Clock
from surge_device.outbox_record import BODY_MAX
from surge_device.reading import READING_LEN_MAX, decode_reading, encode_reading, fitting, reading_time_ms
from surge_wire import cbor
from surge_wire.errors import DecodeError, EncodeError
from surge_wire.limits import RECORDS_MAX, UINT32_MAX, UINT53_MAX
from surge_wire.report import Report, Usage, seal_report
from surge_wire.senml import make_record

PACK = [make_record("temp", "Cel", 21.5), make_record("door", "", True)]


def case_a_reading_comes_back_as_it_was(folder):
    for reading in ((3, 1234, NOON_MS, PACK), (1, 0, None, []), (UINT32_MAX, UINT53_MAX, UINT53_MAX, PACK)):
        assert decode_reading(encode_reading(*reading)) == reading


def case_bytes_that_are_no_reading_raise_decode_error_and_nothing_else(folder):
    body = encode_reading(3, 1234, NOON_MS, PACK)
    for cut in range(len(body)):
        raises(DecodeError, decode_reading, body[:cut])
    for value in (5, [], {}, {1: 1, 3: 5}, {1: 1, 3: 5, 5: 7}, {1: "x", 3: 5, 5: []}, {3: 5, 5: []}):
        raises(DecodeError, decode_reading, cbor.encode(value))


def case_a_clock_that_was_set_since_tells_the_time_afterwards(folder):
    ticks = [1000]
    clock = Clock(lambda: ticks[0], lambda end, start: end - start)
    ticks[0] = 5000
    assert reading_time_ms(7, clock, 7, 1500, None) is None
    assert reading_time_ms(7, clock, 7, 1500, NOON_MS) == NOON_MS
    clock.set_unix_ms(NOON_MS, SOURCE_ACK)
    assert reading_time_ms(7, clock, 7, 1500, None) == NOON_MS - 2500
    assert reading_time_ms(7, clock, 7, 1500, NOON_MS - 9) == NOON_MS - 9
    assert reading_time_ms(7, clock, 6, 1500, None) is None
    assert reading_time_ms(7, clock, 6, 1500, NOON_MS - 9) == NOON_MS - 9


def case_the_longest_reading_can_be_sealed_with_all_that_sealing_adds(folder):
    pack = [make_record("n%d" % number, "", "x" * 256) for number in range(14)]
    body = encode_reading(1, 0, None, pack)
    assert len(body) <= READING_LEN_MAX
    last = make_record("rest", "", "x" * (READING_LEN_MAX - len(body) - 10))
    pack.append(last)
    assert len(encode_reading(1, 0, None, pack)) == READING_LEN_MAX
    usage = Usage(UINT53_MAX, UINT53_MAX, UINT53_MAX, UINT53_MAX, UINT53_MAX, UINT53_MAX)
    for seq, previous_end in ((0, UINT32_MAX), (UINT32_MAX, None)):
        full = Report(1, seq, UINT32_MAX, UINT53_MAX, pack, usage, previous_end, UINT32_MAX)
        envelope = seal_report(DEVICE, SECRET, full)
        assert len(envelope) <= BODY_MAX - 8  # what the outbox takes
    last[3] += "x"
    raises(EncodeError, encode_reading, 1, 0, None, pack)


def case_what_no_report_can_carry_is_left_out(folder):
    good = [make_record("a", "", 1), make_record("b", "", 2.5)]
    bad = [
        make_record("c", "", float("nan")),
        make_record("d", "", 1 << 64),
        make_record("e", "", float("inf")),
    ]
    for wrong in bad:
        raises(EncodeError, encode_reading, 1, 0, None, [wrong])
    assert fitting([bad[0], good[0], bad[1], good[1], bad[2]]) == good
    many = [make_record("n%d" % number, "", number) for number in range(RECORDS_MAX + 6)]
    raises(EncodeError, encode_reading, 1, 0, None, many)
    assert fitting(many) == many[:RECORDS_MAX]
    long = [make_record("t%d" % number, "", "x" * 256) for number in range(20)] + good
    kept = fitting(long)
    assert 10 < len(kept) < 20
    assert kept[-2:] == good  # a short one behind a long one still fits
    encode_reading(UINT32_MAX, UINT53_MAX, UINT53_MAX, kept)
