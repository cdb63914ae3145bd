"""Cases of the outbox on a real directory: what it promises to the app, and what it makes of damage on
flash."""

import os

from expect import raises

from surge_device.errors import OutboxError, OutboxFull
from surge_device.outbox import open_outbox
from surge_device.outbox_index import SEALED_ROW, Index
from surge_device.outbox_limits import Limits

SMALL = Limits(bytes_max=6 * 8400, segment_bytes=8400, entries_max=8, in_flight_max=4)


_opened = []


def start(folder, limits=SMALL):
    outbox = open_outbox(folder, None, limits)
    _opened.append(outbox)
    return outbox


def again(outbox):
    """The outbox as the next start finds it."""
    outbox.close()
    return start(outbox._log._storage.path)


def clean_up():
    """The runner calls it after each case."""
    while _opened:
        _opened.pop().close()


def sealed(outbox):
    return [(boot, seq, bytes(envelope)) for boot, seq, envelope in outbox.unacked()]


def segment_files(outbox):
    path = outbox._log._storage.path
    return [path + "/" + name for name in sorted(os.listdir(path))]


def flip(path, offset):
    """Damages one byte of a file."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[offset] ^= 0xFF
    with open(path, "wb") as file:
        file.write(data)


def find(path, text):
    with open(path, "rb") as file:
        return file.read().find(text)


def case_a_new_outbox_is_empty_and_has_sealed_nothing(folder):
    outbox = start(folder)
    assert (len(outbox), outbox.bytes, outbox.in_flight, outbox.dropped, outbox.damaged) == (0, 0, 0, 0, 0)
    assert outbox.last_sealed is None
    assert outbox.next_pending() is None
    assert sealed(outbox) == []


def case_pending_becomes_sealed_becomes_acked_over_restarts(folder):
    outbox = start(folder)
    number = outbox.put_pending(b"reading")
    outbox = again(outbox)
    assert outbox.next_pending() == (number, b"reading")
    outbox.add_sealed(3, 0, b"envelope", number)
    assert (outbox.pending, outbox.in_flight) == (0, 1)
    outbox = again(outbox)
    assert sealed(outbox) == [(3, 0, b"envelope")]
    assert outbox.next_pending() is None
    assert outbox.ack(3, [[0, 0]]) == 1
    outbox = again(outbox)
    assert len(outbox) == 0
    assert outbox.last_sealed == (3, 0)


def case_last_sealed_survives_when_all_is_acked_and_all_old_segments_are_gone(folder):
    outbox = start(folder)
    outbox.add_sealed(7, 0, b"x" * 500)
    outbox.add_sealed(7, 1, b"x" * 500)
    outbox.ack(7, [[0, 1]])
    first = segment_files(outbox)[0]
    for _ in range(40):
        outbox.put_pending(b"y" * 900)
    assert first not in segment_files(outbox)
    outbox = again(outbox)
    assert outbox.last_sealed == (7, 1)


def case_boot_and_seq_never_repeat_and_leave_no_hole(folder):
    outbox = start(folder)
    raises(OutboxError, outbox.add_sealed, 2, 1, b"a")
    outbox.add_sealed(2, 0, b"a")
    for boot, seq in ((2, 0), (2, 2), (1, 1), (3, 1)):
        error = raises(OutboxError, outbox.add_sealed, boot, seq, b"b")
        assert "(2, 0)" in str(error)
    outbox = again(outbox)
    raises(OutboxError, outbox.add_sealed, 2, 0, b"b")
    outbox.add_sealed(3, 0, b"c")
    assert [row[:2] for row in sealed(outbox)] == [(2, 0), (3, 0)]


def case_the_window_closes_and_acks_open_it(folder):
    outbox = start(folder)
    for seq in range(4):
        assert outbox.window_open
        outbox.add_sealed(1, seq, b"e")
    assert not outbox.window_open
    raises(OutboxFull, outbox.add_sealed, 1, 4, b"e")
    assert outbox.held is None
    assert outbox.ack(2, [[0, 9]]) == 0
    assert outbox.ack(1, [[0, 0], [2, 2]]) == 2
    assert [row[1] for row in sealed(outbox)] == [1, 3]
    outbox.add_sealed(1, 4, b"e")
    assert [row[1] for row in sealed(again(outbox))] == [1, 3, 4]


def case_unacked_goes_on_from_where_it_was_while_acks_arrive(folder):
    outbox = start(folder)
    for seq in range(4):
        outbox.add_sealed(1, seq, b"e%d" % seq)
    seen = []
    for _, seq, _ in outbox.unacked():
        seen.append(seq)
        outbox.ack(1, [[0, seq + 1]])
    assert seen == [0, 2]
    outbox.add_sealed(1, 4, b"e4")
    assert [row[1] for row in outbox.unacked((1, 3))] == [4]


def case_a_full_outbox_thins_the_older_half_and_counts_it(folder):
    outbox = start(folder)
    numbers = [outbox.put_pending(b"r%d" % count) for count in range(8)]
    assert outbox.dropped == 0
    numbers.append(outbox.put_pending(b"r8"))
    left = []
    outbox = again(outbox)
    dropped = outbox.dropped
    seq = 0
    while outbox.next_pending():
        number, body = outbox.next_pending()
        left.append(body)
        outbox.add_sealed(1, seq, body, number)
        outbox.ack(1, [[seq, seq]])
        seq += 1
    assert dropped == 9 - len(left)
    assert 1 <= dropped <= 4
    assert left[0] == b"r1"
    assert left[-5:] == [b"r4", b"r5", b"r6", b"r7", b"r8"] or left[-4:] == [b"r5", b"r6", b"r7", b"r8"]


def case_sealed_entries_are_never_thinned(folder):
    outbox = start(folder)
    for seq in range(4):
        outbox.add_sealed(1, seq, b"s" * 700)
    for _ in range(100):
        outbox.put_pending(b"p" * 700)
    outbox = again(outbox)
    assert [row[:2] for row in sealed(outbox)] == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert outbox.dropped + outbox.pending == 100
    assert len(segment_files(outbox)) <= 6


def case_when_nothing_can_be_thinned_the_answer_is_outbox_full(folder):
    outbox = start(folder, Limits(4 * 8400, 8400, 8, 16))
    stored = 0
    try:
        while stored < 16:
            outbox.add_sealed(1, stored, b"s" * 3000)
            stored += 1
    except OutboxFull as full:
        assert "in flight" in str(full)
    assert stored < 16
    assert outbox.held[:2] == (1, stored)
    assert not outbox.window_open
    raises(OutboxError, outbox.add_sealed, 1, stored, b"other bytes")
    outbox.ack(1, [[0, 1]])
    outbox.retry()
    assert outbox.held is None
    assert outbox.last_sealed == (1, stored)


def case_bad_arguments_change_nothing(folder):
    outbox = start(folder)
    for body in (b"", b"x" * 4161):
        raises(OutboxError, outbox.put_pending, body)
        raises(OutboxError, outbox.add_sealed, 1, 0, body)
    raises(OutboxError, outbox.add_sealed, 1, 0, b"e", 99)
    assert len(outbox) == 0
    outbox.put_pending(b"x" * 4160)
    outbox.add_sealed(1, 0, b"x" * 4152)
    assert len(again(outbox)) == 2
    for limits in ((3 * 8400, 8400, 8, 4), (6 * 8400, 8400, 1, 4), (6 * 8400, 8000, 8, 4)):
        raises(ValueError, start, folder, Limits(*limits))
    raises(ValueError, Limits, 65536, 16384, 8, 65)


def case_a_torn_tail_is_trimmed_and_the_next_record_is_safe(folder):
    outbox = start(folder)
    outbox.put_pending(b"one")
    outbox.close()
    with open(segment_files(outbox)[0], "ab") as file:
        file.write(b"Sg\x02\x00\x08half")
    outbox = start(folder)
    assert (len(outbox), outbox.damaged) == (1, 0)
    outbox.put_pending(b"two")
    outbox = again(outbox)
    assert (len(outbox), outbox.damaged) == (2, 0)


def case_inner_damage_costs_one_record_and_is_counted_once(folder):
    outbox = start(folder)
    for body in (b"alpha-alpha", b"bravo-bravo", b"china-china"):
        outbox.put_pending(body)
    outbox.close()
    path = segment_files(outbox)[0]
    flip(path, find(path, b"bravo"))
    for _ in range(3):
        outbox = again(start(folder))
        assert (len(outbox), outbox.damaged) == (2, 1)
    assert outbox.next_pending()[1] == b"alpha-alpha"


def case_a_damaged_header_is_stepped_over(folder):
    outbox = start(folder)
    for body in (b"alpha-alpha", b"bravo-bravo", b"china-china"):
        outbox.put_pending(body)
    outbox.close()
    path = segment_files(outbox)[0]
    flip(path, find(path, b"bravo") - 10)
    outbox = start(folder)
    assert (len(outbox), outbox.damaged) == (2, 1)


def case_a_damaged_sealed_record_gives_its_reading_no_second_life(folder):
    outbox = start(folder)
    outbox.add_sealed(1, 0, b"envelope-0", outbox.put_pending(b"reading"))
    outbox.add_sealed(1, 1, b"envelope-1")
    outbox.close()
    path = segment_files(outbox)[0]
    flip(path, find(path, b"envelope-0"))
    outbox = start(folder)
    assert outbox.next_pending() is None
    assert sealed(outbox) == [(1, 1, b"envelope-1")]
    assert outbox.damaged == 1


def case_damage_while_running_is_found_at_reading(folder):
    outbox = start(folder)
    outbox.add_sealed(1, 0, b"envelope-0")
    outbox.add_sealed(1, 1, b"envelope-1")
    outbox.put_pending(b"reading")
    path = segment_files(outbox)[0]
    flip(path, find(path, b"envelope-0"))
    flip(path, find(path, b"reading"))
    assert sealed(outbox) == [(1, 1, b"envelope-1")]
    assert outbox.next_pending() is None
    assert outbox.damaged == 2


def case_foreign_files_and_every_cut_of_a_segment_load(folder):
    outbox = start(folder + "/a")
    outbox.add_sealed(1, 0, b"envelope", outbox.put_pending(b"reading"))
    outbox.put_pending(b"other")
    outbox.close()
    with open(segment_files(outbox)[0], "rb") as file:
        data = file.read()
    os.mkdir(folder + "/b")
    with open(folder + "/b/notes.txt", "wb") as file:
        file.write(b"no segment")
    for length in range(len(data) + 1):
        with open(folder + "/b/00000001.seg", "wb") as file:
            file.write(data[:length])
        outbox = start(folder + "/b")
        assert outbox.damaged == 0
        count = len(outbox)
        assert count <= 2
        clean_up()
    assert count == 2


def case_the_index_keeps_its_order_whatever_comes(folder):
    index = Index(SEALED_ROW, 20)
    for number in (5, 1, 9, 7, 3, 20, 2, 2):
        index.put(number, 1, number * 10, 4, 1, number)
    assert [index.number(place) for place in range(index.count)] == [1, 2, 3, 5, 7, 9, 20]
    index.remove(index.find(5))
    index.remove(index.find(1))
    index.remove(index.find(20))
    assert [index.row(place) for place in range(index.count)] == [
        (number, 1, number * 10, 4, 1, number) for number in (2, 3, 7, 9)
    ]
    assert index.find(4) is None
    assert index.find(100) is None
