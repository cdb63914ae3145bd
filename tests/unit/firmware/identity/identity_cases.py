"""Cases of the identity and of the counters that outlive a power cut, on a real directory."""

import os

from expect import raises

from surge_device.cell import VALUE_MAX, Cell
from surge_device.errors import BootCounterLost, CellLost, IdentityError
from surge_device.identity import load_identity
from surge_device.storage import Storage

DEVICE = "d" + "a2b3c4d5e6f7gggg"
SECRET = "00112233445566778899aabbccddeeff" * 2


def write(folder, name, text):
    with open(folder + "/" + name, "w") as file:
        file.write(text)


def names(folder):
    return sorted(os.listdir(folder))


def provisioned(folder, floor='{"boot": 0, "command": 0}'):
    write(folder, "identity.json", '{"device": "%s", "secret": "%s"}' % (DEVICE, SECRET))
    if floor is not None:
        write(folder, "floor.json", floor)
    return load_identity(Storage(folder))


def damage(folder, name):
    with open(folder + "/" + name, "wb") as file:
        file.write(b"SgC1 damaged")


def case_identity_is_read_and_its_secret_is_shown_nowhere(folder):
    identity = provisioned(folder)
    assert identity.device == DEVICE
    assert identity.secret[:2] == b"\x00\x11"
    assert len(identity.secret) == 32
    for text in (repr(identity), str(identity)):
        assert DEVICE in text
        assert SECRET not in text
        assert repr(identity.secret) not in text


def case_bad_identities_are_errors_that_say_where_and_what_to_do(folder):
    storage = Storage(folder)
    for text, wrong in (
        (None, "no identity"),
        ("", "no JSON object"),
        ("[1]", "no JSON object"),
        ("{}", "'device'"),
        ('{"device": "g2222222222222222", "secret": "%s"}' % SECRET, "'device'"),
        ('{"device": "d222222222222222!", "secret": "%s"}' % SECRET, "'device'"),
        ('{"device": 7, "secret": "%s"}' % SECRET, "'device'"),
        ('{"device": "%s"}' % DEVICE, "'secret'"),
        ('{"device": "%s", "secret": "%s"}' % (DEVICE, SECRET[2:]), "'secret'"),
        ('{"device": "%s", "secret": "%szz"}' % (DEVICE, SECRET[2:]), "'secret'"),
        ('{"device": "%s", "secret": 5}' % DEVICE, "'secret'"),
    ):
        if text is not None:
            write(folder, "identity.json", text)
        error = str(raises(IdentityError, load_identity, storage))
        assert wrong in error, error
        assert folder in error or "identity.json" in error, error
        assert "remedy: provision" in error, error
        assert SECRET[2:] not in error, error


def case_every_start_has_the_next_boot_and_it_is_on_flash_first(folder):
    identity = provisioned(folder)
    for boot in range(1, 20):
        assert identity.next_boot() == boot
        identity = load_identity(Storage(folder))
    assert "floor.json" not in names(folder)


def case_a_boot_counter_that_is_lost_is_an_error_with_a_remedy_and_never_a_new_start(folder):
    identity = provisioned(folder)
    identity.next_boot()
    identity.next_boot()
    damage(folder, "boot.0")
    damage(folder, "boot.1")
    for _ in range(2):
        error = str(raises(BootCounterLost, load_identity(Storage(folder)).next_boot))
        assert "floor.json" in error
        assert DEVICE in error
    os.remove(folder + "/boot.0")
    os.remove(folder + "/boot.1")
    raises(BootCounterLost, load_identity(Storage(folder)).next_boot)
    assert provisioned(folder, '{"boot": 50}').next_boot() == 51
    assert load_identity(Storage(folder)).next_boot() == 52


def case_no_floor_and_no_counter_is_a_lost_counter(folder):
    identity = provisioned(folder, None)
    raises(BootCounterLost, identity.next_boot)
    raises(CellLost, identity.last_command)


def case_a_floor_lifts_a_counter_and_never_lowers_it(folder):
    identity = provisioned(folder)
    for _ in range(9):
        identity.next_boot()
    assert provisioned(folder, '{"boot": 3, "command": 5}').next_boot() == 10
    assert load_identity(Storage(folder)).last_command() == 5


def case_a_bad_floor_is_an_error_and_stays(folder):
    for text in ("5", '{"boot": -1}', '{"boot": "5"}', '{"boot": true}', '{"boot": 4294967296}'):
        raises(IdentityError, provisioned(folder, text).next_boot)
        assert "floor.json" in names(folder)


def case_one_damaged_copy_never_brings_a_boot_back(folder):
    identity = provisioned(folder)
    for name in ("boot.0", "boot.1", "boot.0", "boot.1"):
        for _ in range(3):
            last = identity.next_boot()
        damage(folder, name)
        identity = load_identity(Storage(folder))
        boot = identity.next_boot()
        assert last < boot <= last + 2


def case_the_outbox_may_know_of_a_later_boot(folder):
    identity = provisioned(folder)
    assert identity.next_boot(9) == 10
    assert identity.next_boot(9) == 11


def open_bytes(folder, name):
    with open(folder + "/" + name, "rb") as file:
        return file.read()


def case_commands_count_up_and_survive(folder):
    identity = provisioned(folder)
    identity.next_boot()
    assert identity.last_command() == 0
    identity.executed_command(4)
    raises(ValueError, identity.executed_command, 4)
    raises(ValueError, identity.executed_command, 3)
    assert load_identity(Storage(folder)).last_command() == 4


def case_a_cell_keeps_to_its_range_and_its_name(folder):
    storage = Storage(folder)
    cell = Cell(storage, "boot")
    assert not cell.exists()
    cell.create(VALUE_MAX - 1)
    assert cell.exists()
    cell.write(VALUE_MAX)
    raises(ValueError, cell.write, VALUE_MAX + 1)
    for slot in ("0", "1"):
        with open(folder + "/other." + slot, "wb") as file:
            file.write(open_bytes(folder, "boot." + slot))
    raises(CellLost, Cell(storage, "other").read)
    write(folder, "identity.json", '{"device": "%s", "secret": "%s"}' % (DEVICE, SECRET))
    error = str(raises(BootCounterLost, load_identity(storage).next_boot))
    assert "used up" in error


def case_every_damaged_byte_of_a_copy_is_found(folder):
    cell = Cell(Storage(folder), "boot")
    cell.create(1000)
    os.remove(folder + "/boot.1")
    data = open_bytes(folder, "boot.0")
    for offset in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[offset] ^= 1 << bit
            with open(folder + "/boot.0", "wb") as file:
                file.write(changed)
            raises(CellLost, cell.read)
