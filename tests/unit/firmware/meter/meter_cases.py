"""Cases of what the device knows about itself: its clocks, its load, its resources, an NTP server's
answer."""

import asyncio
import struct

from expect import raises

from surge_device.busy import LATE_MS, BusyProbe
from surge_device.clock import NTP_TRUST_MS, SANE_MAX_MS, SANE_MIN_MS, SOURCE_ACK, SOURCE_NTP, Clock
from surge_device.meter import UNITS, Meter
from surge_device.sntp import decode_answer
from surge_wire.units import is_registered

PERIOD = 1 << 30  # of MicroPython's ticks
NOON = 1800000000000


class Ticks:
    """Ticks as MicroPython has them, moved by hand."""

    def __init__(self, at=0):
        self.now = at

    def ms(self):
        return self.now % PERIOD

    def diff(self, end, start):
        return ((end - start + PERIOD // 2) % PERIOD) - PERIOD // 2


def clock(at=0):
    ticks = Ticks(at)
    return Clock(ticks.ms, ticks.diff), ticks


def case_uptime_outlives_the_wrap_of_the_ticks(folder):
    made, ticks = clock(PERIOD - 10)
    for _ in range(20):
        ticks.now += PERIOD // 3
        made.uptime_ms()
    assert made.uptime_ms() == 20 * (PERIOD // 3)
    ticks.now -= 5
    assert made.uptime_ms() == 20 * (PERIOD // 3)


def case_the_time_of_day_is_unknown_until_told(folder):
    made, ticks = clock()
    ticks.now += 5000
    assert made.now_ms() is None
    assert made.set_unix_ms(NOON, SOURCE_ACK)
    ticks.now += 250
    assert made.now_ms() == NOON + 250
    assert made.source == SOURCE_ACK
    assert made.steps == 0


def case_times_outside_the_sane_window_are_refused(folder):
    """Threat 7: 1970, 2038's overflow and the far future."""
    made, _ = clock()
    for wrong in (0, -1, SANE_MIN_MS - 1, SANE_MAX_MS + 1, 1 << 63, 1.8e12, None, "now"):
        assert not made.set_unix_ms(wrong, SOURCE_NTP)
    assert made.now_ms() is None
    assert made.refused == 8
    assert made.set_unix_ms(2200000000000, SOURCE_ACK)  # after January 2038
    assert made.now_ms() == 2200000000000


def case_small_differences_are_taken_in_by_halves_and_big_ones_at_once(folder):
    made, _ = clock()
    made.set_unix_ms(NOON, SOURCE_ACK)
    made.set_unix_ms(NOON + 1000, SOURCE_ACK)
    assert made.now_ms() == NOON + 500
    made.set_unix_ms(NOON + 90000, SOURCE_ACK)
    assert made.now_ms() == NOON + 90000
    assert made.steps == 1


def case_an_ack_does_not_move_a_clock_that_ntp_set_until_a_day_later(folder):
    made, ticks = clock()
    made.set_unix_ms(NOON, SOURCE_NTP)
    assert not made.set_unix_ms(NOON + 3600000, SOURCE_ACK)
    assert made.now_ms() == NOON
    assert made.set_unix_ms(NOON + 700, SOURCE_NTP)
    assert made.now_ms() == NOON + 700
    ticks.now += NTP_TRUST_MS
    assert made.set_unix_ms(NOON + 2 * NTP_TRUST_MS, SOURCE_ACK)


class StandInBoard:
    def __init__(self, values):
        self.values = values

    def read_resources(self):
        return self.values


def case_the_meter_gives_units_and_leaves_out_what_is_not_measured(folder):
    made, ticks = clock()
    ticks.now += 12999
    meter = Meter(StandInBoard({"temp": 41.5, "mem_free": 1000}), made)
    assert meter.sample() == [("mem_free", "B", 1000), ("temp", "Cel", 41.5), ("uptime", "s", 12)]
    assert Meter(StandInBoard({}), made).sample() == [("uptime", "s", 12)]
    for _, unit in UNITS:
        assert is_registered(unit)


def case_usage_only_grows(folder):
    made, _ = clock()
    meter = Meter(StandInBoard({}), made)
    meter.count_report(5, 300)
    meter.count_report(7, 400)
    assert (meter.reports, meter.samples, meter.bytes) == (2, 12, 700)


def case_the_probe_gives_the_share_of_late_wakings(folder):
    ticks = Ticks()
    probe = BusyProbe(ticks.ms, ticks.diff)
    lateness = [0, 0, LATE_MS, 50, 1, 0, 0, 0, 7, 0]
    seen = []

    async def sleep_ms(duration):
        if not lateness:
            raise EOFError
        seen.append(duration)
        ticks.now += duration + lateness.pop()

    assert probe.take() is None
    raises(EOFError, asyncio.run, probe.run(sleep_ms, int))
    assert probe.take() == 30.0
    assert probe.take() is None
    assert len(set(seen)) == 10  # no two waits alike, so that no periodic task hides


def answer(nonce, first=0x24, stratum=2, seconds=4009000000, fraction=1 << 31):
    return bytes([first, stratum]) + bytes(22) + nonce + bytes(8) + struct.pack(">II", seconds, fraction)


def case_only_a_synchronised_servers_answer_to_our_question_counts(folder):
    nonce = b"12345678"
    assert decode_answer(answer(nonce), nonce) == (4009000000 - 2208988800) * 1000 + 500
    for wrong in (
        answer(b"87654321"),
        answer(nonce)[:47],
        answer(nonce) + b"x",
        answer(nonce, first=0xE4),  # leap 3: not synchronised
        answer(nonce, first=0x23),  # a client's
        answer(nonce, stratum=0),  # kiss-o'-death
        answer(nonce, stratum=16),
        b"",
    ):
        assert decode_answer(wrong, nonce) is None


def case_ntp_seconds_go_on_after_2036(folder):
    nonce = b"12345678"
    assert (
        decode_answer(answer(nonce, seconds=100, fraction=0), nonce) == ((1 << 32) + 100 - 2208988800) * 1000
    )
