"""The pure device, rule by rule, as the specification has them."""

from typing import Any

from surge_cli.simulate.clocks import SKEWED, YEAR_2038_MS, Skew
from surge_cli.simulate.device import RETRY_MIN_MS, Executed, SimulatedDevice, make_identity
from surge_cli.simulate.flash import IN_FLIGHT_MAX, WAITING_MAX
from surge_wire.ack import Ack, encode_ack
from surge_wire.command import RESTART, SET_REPORT_INTERVAL, Command, seal_command
from surge_wire.cose import mac_valid
from surge_wire.hkdf import INFO_COMMAND, derive_key
from surge_wire.ids import DEVICE, make_id
from surge_wire.limits import UINT53_MAX
from surge_wire.report import Report, decode_report, open_report
from surge_wire.senml import make_record

IDENTITY = make_identity(make_id(DEVICE, bytes(10)), bytes(range(32)))
NOON_MS = 1_790_000_000_000
PACK: list[dict[int, Any]] = [make_record("value", "", 1), make_record("other", "", 2)]


def started(skew: Skew = Skew.NONE) -> SimulatedDevice:
    device = SimulatedDevice(IDENTITY, skew)
    device.start(0)
    device.on_link(True)
    return device


def report_of(envelope: bytes) -> Report:
    _, opened = open_report(envelope)
    assert mac_valid(opened, IDENTITY.report_key)
    return decode_report(opened.payload)


def take(device: SimulatedDevice, now_ms: int = 0, count: int = 1) -> list[Report]:
    made = [entry for _ in range(count) for entry in device.take_reading(PACK, now_ms)[0]]
    return [report_of(entry.envelope) for entry in made]


def ack(device: SimulatedDevice, boot: int, first: int, last: int, now_ms: int = 0) -> int:
    return len(device.on_ack(encode_ack(Ack(boot, [(first, last)], NOON_MS)), now_ms))


def test_a_secret_is_not_shown() -> None:
    assert IDENTITY.secret.hex() not in repr(IDENTITY)
    assert "report_key" not in repr(IDENTITY)


def test_the_window_holds_back_sealing_and_an_ack_opens_it() -> None:
    device = started()
    assert len(take(device, count=IN_FLIGHT_MAX + 3)) == IN_FLIGHT_MAX
    assert len(device.flash.waiting) == 3
    assert ack(device, 1, 0, 1) == 2
    assert [entry.seq for entry in device.seal_waiting(5)] == [IN_FLIGHT_MAX, IN_FLIGHT_MAX + 1]


def test_usage_is_cumulative_and_in_every_sixth_report() -> None:
    device = started()
    reports = take(device, count=8)
    assert [report.seq for report in reports if report.usage is not None] == [0, 6]
    usage = reports[6].usage
    assert usage is not None
    assert (usage.reports, usage.samples, usage.dropped) == (6, 12, 0)
    assert usage.bytes == sum(len(entry.envelope) for entry in list(device.flash.sealed.values())[:6])


def test_a_full_store_thins_the_older_half_and_counts_it() -> None:
    device = started()
    take(device, count=IN_FLIGHT_MAX + WAITING_MAX)
    oldest = [reading.pack for reading in device.flash.waiting[:2]]
    _, thinned = device.take_reading(PACK, 1)
    assert thinned == WAITING_MAX // 4 + 1
    assert len(device.flash.waiting) == WAITING_MAX - thinned + 1
    assert device.flash.waiting[0].pack is oldest[1]
    ack(device, 1, 0, IN_FLIGHT_MAX - 1)
    dropped = {report_of(one.envelope).usage.dropped for one in device.seal_waiting(2) if _has_usage(one)}
    assert dropped == {thinned}


def _has_usage(entry: Any) -> bool:
    return report_of(entry.envelope).usage is not None


def test_a_boot_states_where_the_one_before_ended() -> None:
    device = started()
    assert take(device, count=3)[0].previous_end is None  # there was none before
    device.power_cut(10)
    assert device.boot == 2
    device.power_cut(20)  # a boot that sealed nothing
    assert take(device, now_ms=25)[0].previous_end == 0
    device.power_cut(30)
    assert take(device, now_ms=35)[0].previous_end == 1


def test_what_flash_lost_makes_the_end_of_a_boot_unknown() -> None:
    device = started()
    take(device, count=3)
    assert device.flash.damage((1, 2))
    device.power_cut(10)
    assert take(device, now_ms=15)[0].previous_end is None
    device.power_cut(20)
    assert take(device, now_ms=25)[0].previous_end == 1


def test_acks_that_were_not_synced_may_be_forgotten() -> None:
    for survive in (True, False):
        device = started()
        take(device, count=2)
        ack(device, 1, 0, 0)
        device.power_cut(10, acks_survive=survive)
        assert sorted(device.flash.sealed) == [(1, 1)] if survive else [(1, 0), (1, 1)]
    device = started()
    take(device, count=2)
    ack(device, 1, 0, 0)
    take(device)  # a durable write, which syncs the ack as well
    device.power_cut(10, acks_survive=False)
    assert sorted(device.flash.sealed) == [(1, 1), (1, 2)]


def test_sending_again_backs_off_and_an_ack_makes_it_quick() -> None:
    device = started()
    take(device, count=2)
    assert [entry.seq for entry in device.due(0)] == [0, 1]
    assert device.due(RETRY_MIN_MS - 1) == []
    take(device, now_ms=RETRY_MIN_MS - 1)
    assert [entry.seq for entry in device.due(RETRY_MIN_MS - 1)] == [2]
    # what was sent since the pause began isn't repeated
    assert [entry.seq for entry in device.due(RETRY_MIN_MS)] == [0, 1]
    assert device.retry_at_ms == RETRY_MIN_MS + 2 * RETRY_MIN_MS
    assert [entry.seq for entry in device.due(3 * RETRY_MIN_MS)] == [0, 1, 2]
    assert device.retry_at_ms == 3 * RETRY_MIN_MS + 4 * RETRY_MIN_MS
    ack(device, 1, 0, 1, now_ms=3 * RETRY_MIN_MS + 5)
    assert device.retry_at_ms == 3 * RETRY_MIN_MS + 5 + RETRY_MIN_MS


def test_a_reading_that_waited_gets_its_time_afterwards() -> None:
    device = started()
    first = take(device, now_ms=1_000)[0]
    assert first.time_ms is None
    take(device, now_ms=2_000, count=IN_FLIGHT_MAX)  # the last of them waits
    ack(device, 1, 0, 3, now_ms=10_000)
    (sealed,) = device.seal_waiting(10_000)
    assert report_of(sealed.envelope).time_ms == NOON_MS - 8_000


def test_skewed_clocks_lie_and_acks_do_not_help() -> None:
    claimed = {}
    for skew in SKEWED:
        device = started(skew)
        take(device, now_ms=0)
        ack(device, 1, 0, 0, now_ms=0)
        claimed[skew] = take(device, now_ms=100_000)[0].time_ms
    assert claimed[Skew.NO_CLOCK] is None
    assert claimed[Skew.YEAR_1970] == 100_000
    assert claimed[Skew.DRIFTING] == NOON_MS + 105_000
    assert (claimed[Skew.YEAR_2038] or 0) > YEAR_2038_MS
    assert UINT53_MAX >= (claimed[Skew.FAR_FUTURE] or 0) > UINT53_MAX - 100_000_000


def command(counter: int, operation: int, arguments: dict[int, Any] | None = None, **more: Any) -> bytes:
    key = derive_key(IDENTITY.secret, INFO_COMMAND)
    return seal_command(IDENTITY.device_id, key, Command(counter, operation, arguments, **more))


def test_commands_run_once_and_are_reported() -> None:
    device = started()
    assert device.on_command(command(2, SET_REPORT_INTERVAL, {1: 30}), 0) == Executed(1, 30_000)
    assert device.on_command(command(2, SET_REPORT_INTERVAL, {1: 30}), 0) is None
    assert device.on_command(command(1, RESTART), 0) is None
    assert take(device)[0].command_counter == 2
    assert device.on_command(command(3, SET_REPORT_INTERVAL, {1: 0}), 0) is None
    assert device.on_command(command(4, 99), 0) is None  # not known: remembered, not executed
    assert device.flash.command == 4
    assert device.on_command(b"rubbish", 0) is None
    device.power_cut(5)
    assert device.on_command(command(4, RESTART), 6) is None
    assert device.on_command(command(5, RESTART), 6) == Executed(RESTART)


def test_an_expired_command_is_refused_where_there_is_a_clock() -> None:
    device = started()
    assert device.on_command(command(1, RESTART, expires_ms=NOON_MS - 1), 0) == Executed(RESTART)
    take(device)
    ack(device, 1, 0, 0)
    assert device.on_command(command(2, RESTART, expires_ms=NOON_MS - 1), 0) is None
    assert device.flash.command == 1


def test_a_copied_storage_goes_its_own_way() -> None:
    device = started()
    take(device, count=2)
    twin = SimulatedDevice(IDENTITY, flash=device.flash.copy())
    take(device)
    twin.start(10)
    (made,) = twin.take_reading(PACK, 10)[0]
    assert made.name == (2, 0)
    assert report_of(made.envelope).previous_end == 2  # and yet the device has sealed a report 2
    assert len(device.flash.sealed) == 3
