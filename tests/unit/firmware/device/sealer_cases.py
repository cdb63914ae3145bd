"""Cases of sealing: numbers without holes, the end of the boot before, usage, a file system that refuses."""

import os

from device_world import NOON_MS, World, clean_up  # noqa: F401 - the runner calls clean_up
from expect import raises

from surge_device.clock import SOURCE_ACK
from surge_device.errors import OutboxFull
from surge_device.sealer import USAGE_EVERY
from surge_wire.limits import RECORDS_MAX
from surge_wire.senml import make_record


def case_seq_is_dense_and_each_report_opens_under_the_devices_key(folder):
    world = World(folder)
    for value in range(20):
        world.read(value)
        (report,) = world.reports()
        assert (report.boot, report.seq) == (1, value)
        assert [record.value for record in report.records()] == [value]
        assert report.time_ms is None
        world.ack_all()


def case_readings_wait_while_the_window_is_closed_and_keep_their_order(folder):
    world = World(folder)
    for value in range(9):
        world.ticks += 10
        world.read(value)
    assert (world.outbox.in_flight, world.outbox.pending, world.sealer.seq) == (4, 5, 4)
    assert world.sealer.seal_waiting() == 0
    world.ack_all()
    world.read(9)  # the window is open, but older ones wait
    assert world.outbox.in_flight == 0
    assert world.sealer.seal_waiting() == 4
    assert [report.uptime_ms for report in world.reports()] == [50, 60, 70, 80]
    assert world.sealed_values() == [4, 5, 6, 7, 8, 9]
    assert world.sealer.seq == 10


def case_the_first_report_says_where_the_boot_before_ended(folder):
    world = World(folder)  # boot 1: nothing was before
    world.read()
    world.read()
    assert [report.previous_end for report in world.reports()] == [None, None]
    world.ack_all()
    world = world.again()  # boot 2
    world.read()
    world.read()
    assert [(report.boot, report.previous_end) for report in world.reports()] == [(2, 2), (2, None)]
    world = world.again()  # boot 3 seals nothing
    assert world.previous_end == 2
    world = world.again()  # boot 4
    world.read()
    assert [report.previous_end for report in world.reports()] == [2, None, 0]


def case_after_damage_on_flash_the_end_of_the_boot_before_is_not_stated(folder):
    world = World(folder)
    for value in range(3):
        world.read(value)
    world.outbox.close()
    path = folder + "/outbox/" + os.listdir(folder + "/outbox")[0]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 0xFF
    with open(path, "wb") as file:
        file.write(data)
    world = World(folder)
    assert world.outbox.damaged == 1
    assert world.previous_end is None
    world.read()
    assert [report.previous_end for report in world.reports() if report.boot == 2] == [None]


def case_an_outbox_that_is_gone_states_no_end_and_repeats_no_number(folder):
    world = World(folder)
    world.read()
    world.outbox.close()
    for name in os.listdir(folder + "/outbox"):
        os.remove(folder + "/outbox/" + name)
    world = World(folder)
    world.read()
    assert [(report.boot, report.seq, report.previous_end) for report in world.reports()] == [(2, 0, None)]


def case_usage_is_cumulative_in_the_first_report_and_in_every_sixth(folder):
    world = World(folder)
    lengths = 0
    for seq in range(2 * USAGE_EVERY + 1):
        world.sealer.add_reading([make_record("a", "", seq), make_record("b", "", seq)])
        ((_, _, envelope),) = world.envelopes()
        (report,) = world.reports()
        if seq % USAGE_EVERY:
            assert report.usage is None
        else:
            usage = report.usage
            assert (usage.reports, usage.samples, usage.bytes) == (seq, 2 * seq, lengths)
            assert usage.dropped == 0
        lengths += len(envelope)
        world.ack_all()


def case_usage_counts_what_was_thinned_out_in_this_boot(folder):
    world = World(folder)
    for value in range(40):
        world.read(value)
    dropped = world.outbox.dropped
    assert dropped > 20
    assert len(world.sealed_values()) == 40 - dropped
    while world.sealer.seq % USAGE_EVERY:
        world.read()
        world.ack_all()
    world.read()
    assert world.reports()[-1].usage.dropped == dropped
    world = world.again()
    world.ack_all()
    world.read()
    assert world.reports()[0].usage.dropped == 0


def case_a_reading_without_records_is_a_usage_report(folder):
    world = World(folder)
    for _ in range(2):
        world.sealer.add_reading([])
    for report in world.reports():
        assert report.pack is None
        assert report.usage is not None


def case_what_the_file_system_refused_goes_out_unchanged_under_its_number(folder):
    world = World(folder)
    world.read(0)
    world.full = True
    world.read(1)  # not lost, so nothing is raised
    held = world.outbox.held
    assert held[:2] == (1, 1)
    assert world.outbox.dropped == 0
    assert len(world.log.said("outbox.refused")) == 1
    raises(OutboxFull, world.read, 2)  # this one is lost, and counted
    assert world.outbox.dropped == 1
    for _ in range(5):
        assert world.sealer.seal_waiting() == 0
    assert len(world.log.lines) == 1  # said once, not at each try
    assert world.sealer.seq == 2
    world.ticks += 1000
    world.commands.last = 9  # later circumstances don't change it
    world.full = False
    world.read(3)
    assert world.sealer.seal_waiting() == 2
    assert world.envelopes()[1] == (1, 1, bytes(held[2]))
    assert [report.records()[0].value for report in world.reports()] == [0, 1, 3]
    assert [report.seq for report in world.reports()] == [0, 1, 2]


def case_a_power_cut_before_a_held_one_was_stored_leaves_no_hole(folder):
    world = World(folder)
    world.read(0)
    world.full = True
    world.read(1)
    world.full = False
    world = World(folder)  # RAM is gone
    ends = {report.seq for report in world.reports()}
    world.read(2)
    (report,) = [report for report in world.reports() if report.boot == 2]
    assert report.previous_end == max(ends) + 1


def case_readings_of_an_earlier_boot_get_this_boots_numbers_and_keep_their_time(folder):
    world = World(folder)
    world.clock.set_unix_ms(NOON_MS, SOURCE_ACK)
    world.ticks += 100
    for value in range(6):
        world.read(value)
    world = world.again()
    world.ack_all()
    world.ticks += 70000
    world.read(6)
    world.clock.set_unix_ms(NOON_MS + 500000, SOURCE_ACK)
    world.sealer.seal_waiting()
    reports = world.reports()
    assert [(report.boot, report.seq) for report in reports] == [(2, 0), (2, 1), (2, 2)]
    assert [report.time_ms for report in reports] == [NOON_MS + 100, NOON_MS + 100, NOON_MS + 500000]
    assert [report.uptime_ms for report in reports] == [70000, 70000, 70000]
    assert [report.records()[0].value for report in reports] == [4, 5, 6]


def case_the_last_commands_counter_comes_back(folder):
    world = World(folder)
    world.read()
    world.commands.last = 5
    world.read()
    assert [report.command_counter for report in world.reports()] == [None, 5]


def case_a_record_that_no_report_can_carry_costs_only_itself(folder):
    world = World(folder)
    good = make_record("good", "", 1)
    for _ in range(6):  # sealed at once, and waiting
        assert world.sealer.add_reading([make_record("bad", "", float("nan")), good]) == 1
    many = [make_record("n%d" % number, "", number) for number in range(RECORDS_MAX + 3)]
    assert world.sealer.add_reading(many) == 3
    counts = []
    while len(world.outbox):
        world.sealer.seal_waiting()
        counts += [len(report.records()) for report in world.reports()]
        world.ack_all()
    assert counts == [1] * 6 + [RECORDS_MAX]
    assert world.sealer.seq == 7


def case_a_waiting_entry_that_is_no_reading_becomes_a_usage_report(folder):
    world = World(folder)
    for body in (b"not CBOR", b"\xa3\x01\x01\x03\x05\x05\x81\x05\x00"):
        world.outbox.put_pending(body)
    world.outbox.put_pending(b"\xa4\x01\x01\x03\x05\x04\x20\x05\x80")  # its time is negative
    assert world.sealer.seal_waiting() == 3
    assert world.sealer.damaged == 3
    assert [report.usage is not None for report in world.reports()] == [True] * 3
    assert [report.seq for report in world.reports()] == [0, 1, 2]
