"""The boot counter under power loss at any operation (threat 5)."""

import pytest
from power_storage import PowerCut, PowerStorage

from surge_device.errors import BootCounterLost
from surge_device.identity import FLOOR_FILE, Identity


def provisioned(seed: int) -> PowerStorage:
    storage = PowerStorage(seed)
    storage.path = "data"
    storage.write_durably(FLOOR_FILE, b'{"boot": 7, "command": 3}')
    return storage


@pytest.mark.parametrize("seed", range(40))
def test_no_boot_number_is_ever_given_twice_and_none_is_lost(seed: int) -> None:
    storage = provisioned(seed)
    given = [7]
    for life in range(60):
        storage.cut_at = storage.steps + storage.random.randrange(1, 12)
        try:
            boot = Identity("d" + "a" * 16, bytes(32), storage).next_boot()
        except PowerCut:
            pass
        else:
            assert boot > given[-1]
            assert boot <= given[-1] + 2 * life + 2  # a torn copy costs a number, which is harmless
            given.append(boot)
            storage.cut_at = None
            assert Identity("d" + "a" * 16, bytes(32), storage).last_command() == 3
        path = storage.path
        storage = storage.restart(power_lost=storage.random.random() < 0.8)
        storage.path = path
    assert len(given) > 10


def test_a_full_file_system_gives_no_boot_number() -> None:
    storage = provisioned(1)
    identity = Identity("d" + "a" * 16, bytes(32), storage)
    assert identity.next_boot() == 8
    storage.capacity = storage.used()
    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            identity.next_boot()
    storage.capacity = 1 << 20
    assert Identity("d" + "a" * 16, bytes(32), storage).next_boot() == 9
    for name in ("boot.0", "boot.1"):
        storage.write_durably(name, b"")
    with pytest.raises(BootCounterLost):
        identity.next_boot()
