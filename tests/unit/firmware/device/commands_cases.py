"""Cases of commands: who may give them, that none runs twice, and what is on flash before it acts."""

from device_world import DEVICE, NOON_MS, SECRET, Lines, write
from device_world import SECRET_HEX as HEX
from expect import raises

from surge_device.clock import SOURCE_ACK, Clock
from surge_device.commands import INTERVAL_MAX_S, Commands, interval_ms
from surge_device.identity import load_identity
from surge_device.storage import Storage
from surge_wire.command import RESTART, SAMPLE_NOW, SET_REPORT_INTERVAL, Command, seal_command
from surge_wire.hkdf import INFO_COMMAND, INFO_REPORT, derive_key

KEY = derive_key(SECRET, INFO_COMMAND)


class PowerCut(BaseException):
    """The power is gone."""


class World:
    def __init__(self, folder):
        self.folder = folder
        self.storage = Storage(folder)
        if not self.storage.exists("identity.json"):
            write(folder, "identity.json", '{"device": "%s", "secret": "%s"}' % (DEVICE, HEX))
            write(folder, "floor.json", '{"boot": 0, "command": 0}')
        self.identity = load_identity(self.storage)
        self.identity.next_boot()
        self.clock = Clock(lambda: 0, lambda end, start: end - start)
        self.log = Lines()
        self.done = []
        self.answer = None
        actions = {
            operation: self._action(operation) for operation in (SET_REPORT_INTERVAL, RESTART, SAMPLE_NOW)
        }
        self.commands = Commands(self.identity, self.clock, self.log, actions)

    def _action(self, operation):
        def act(arguments):
            self.done.append((operation, arguments, self.on_flash()))
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

        return act

    def on_flash(self):
        return load_identity(Storage(self.folder)).last_command()

    def take(self, counter, operation=SAMPLE_NOW, arguments=None, expires_ms=None, device=DEVICE, key=KEY):
        return self.commands.take(
            seal_command(device, key, Command(counter, operation, arguments, expires_ms))
        )


def case_a_command_is_executed_once_and_its_counter_is_on_flash_first(folder):
    world = World(folder)
    assert world.take(1)
    assert world.done == [(SAMPLE_NOW, {}, 1)]
    assert not world.take(1)
    assert world.take(5, SET_REPORT_INTERVAL, {1: 30})
    assert not world.take(4)
    assert not world.take(5, RESTART)
    assert world.done[1:] == [(SET_REPORT_INTERVAL, {1: 30}, 5)]
    assert world.commands.last == 5
    assert world.commands.refused == 0  # repetitions are the gateway's way, not an attack
    world = World(folder)
    assert not world.take(5)
    assert world.take(6)


def case_a_power_cut_between_counter_and_action_executes_it_never_rather_than_twice(folder):
    world = World(folder)
    world.answer = PowerCut()
    raises(PowerCut, world.take, 1, RESTART)
    world = World(folder)
    assert world.commands.last == 1
    assert not world.take(1, RESTART)
    assert world.done == []


def case_what_is_not_the_backends_word_is_refused_and_spends_no_counter(folder):
    world = World(folder)
    good = seal_command(DEVICE, KEY, Command(1, SAMPLE_NOW))
    for offset in range(len(good)):
        changed = bytearray(good)
        changed[offset] ^= 1
        assert not world.commands.take(bytes(changed))
    for cut in range(len(good)):
        assert not world.commands.take(good[:cut])
    assert not world.take(1, device="d" + "b" * 16)
    assert not world.take(1, key=derive_key(SECRET, INFO_REPORT))
    assert not world.take(1, key=bytes(32))
    assert not world.commands.take(good + bytes(2000))
    assert world.commands.refused == 2 * len(good) + 4
    assert world.done == []
    assert (world.commands.last, world.on_flash()) == (0, 0)
    assert world.take(1)


def case_an_expired_command_is_refused_where_the_device_has_a_clock(folder):
    world = World(folder)
    assert world.take(1, expires_ms=5)  # no clock: the counter decides alone
    world.clock.set_unix_ms(NOON_MS, SOURCE_ACK)
    assert not world.take(2, expires_ms=NOON_MS - 1)
    assert (world.commands.refused, world.on_flash()) == (1, 1)
    assert world.take(2, expires_ms=NOON_MS)


def case_an_operation_that_is_not_known_is_remembered_and_skipped(folder):
    world = World(folder)
    assert not world.take(7, operation=99)
    assert (world.commands.last, world.on_flash()) == (7, 7)
    assert world.done == []
    assert not world.take(7)
    assert "99" in str(world.log.lines[-1])


def case_an_action_that_refuses_its_arguments_is_counted(folder):
    world = World(folder)
    world.answer = "interval out of range"
    assert not world.take(1, SET_REPORT_INTERVAL, {1: 0})
    assert (world.commands.refused, world.commands.last) == (1, 1)
    for arguments in ({}, {1: 0}, {1: -5}, {1: INTERVAL_MAX_S + 1}, {1: 2.5}, {1: "5"}, {1: True}, {2: 5}):
        assert interval_ms(arguments) is None, arguments
    assert interval_ms({1: 1}) == 1000
    assert interval_ms({1: INTERVAL_MAX_S}) == INTERVAL_MAX_S * 1000


def case_a_counter_that_cannot_be_stored_means_no_action(folder):
    world = World(folder)

    def full(*_):
        raise OSError(28)

    world.storage.write_durably, works = full, world.storage.write_durably
    assert not world.take(1)
    assert (world.done, world.commands.last) == ([], 0)
    world.storage.write_durably = works
    assert world.take(1)  # the same one, sent again
    for name in ("command.0", "command.1"):
        write(folder, name, "damaged")
    assert not world.take(2)
    assert len(world.done) == 1
    assert world.commands.refused == 2
