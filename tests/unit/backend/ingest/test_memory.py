"""What ingest remembers between batches is never staler than the database, and bounded."""

from typing import Any

import pytest
from sqlalchemy import select, update

from surge_backend.db.boots import BOOTS
from surge_backend.db.schema import devices
from surge_backend.errors import KeyUnreadable
from surge_backend.ingest.device_keys import DeviceKeys
from surge_backend.ingest.histories import Histories


class CountingVault:
    """The real vault, and how often it was asked."""

    def __init__(self, vault: Any) -> None:
        self.vault = vault
        self.asked: list[str] = []

    def open(self, device_id: str, sealed: bytes) -> bytes:
        self.asked.append(device_id)
        return bytes(self.vault.open(device_id, sealed))


def load(world: Any, keys: DeviceKeys, *kids: bytes) -> dict[str, str]:
    with world.database.read() as connection:
        return {key.device_id: key.status for key in keys.load(connection, kids).by_id().values()}


def set_status(world: Any, device: Any, status: str, revision: int) -> None:
    with world.database.write() as connection:
        connection.execute(
            update(devices).where(devices.c.id == device.id).values(status=status, revision=revision)
        )


def test_a_secret_is_opened_once_and_a_change_is_seen(world: Any):
    first, second = world.device(), world.device()
    vault = CountingVault(world.vault)
    keys = DeviceKeys(vault.open)
    kids = [first.id.encode(), second.id.encode(), b"not an id", b"daaaaaaaaaaaaaaaa"]
    for status, revision in (("active", 90), ("frozen", 91), ("active", 92), ("retired", 93)):
        set_status(world, second, status, revision)
        assert load(world, keys, *kids) == {first.id: "active", second.id: status}
    assert sorted(vault.asked) == sorted([first.id, second.id])


def test_a_device_that_enrols_later_is_found(world: Any):
    keys = DeviceKeys(world.vault.open)
    assert load(world, keys, b"daaaaaaaaaaaaaaaa") == {}
    late = world.device()
    assert load(world, keys, late.id.encode()) == {late.id: "active"}


def test_keys_remembered_are_bounded(world: Any):
    boards = [world.device() for _ in range(5)]
    vault = CountingVault(world.vault)
    keys = DeviceKeys(vault.open, remembered_max=2)
    for board in boards * 2:
        assert load(world, keys, board.id.encode()) == {board.id: "active"}
    assert len(vault.asked) == 10
    assert load(world, keys, *[board.id.encode() for board in boards]).keys() == {
        board.id for board in boards
    }


def test_a_secret_that_does_not_open_names_the_device_and_the_remedy(world: Any):
    board, other = world.device(), world.device()
    with world.database.write() as connection:
        sealed = world.vault.seal(other.id, bytes(32))
        connection.execute(update(devices).where(devices.c.id == board.id).values(secret_sealed=sealed))
    with pytest.raises(KeyUnreadable, match=rf"{board.id} .*master key"):
        load(world, DeviceKeys(world.vault.open), board.id.encode())


def test_refreshing_without_a_change_costs_nothing(world: Any):
    board = world.device()
    keys = DeviceKeys(world.vault.open)
    kids = [board.id.encode()]
    with world.database.read() as connection:
        known = keys.load(connection, kids)
        assert keys.refresh(connection, known, kids) is known
    set_status(world, board, "frozen", 99)
    with world.database.read() as connection:
        assert keys.refresh(connection, known, kids).by_id()[board.id].status == "frozen"


def test_a_reader_that_began_before_a_change_leaves_nothing_stale_behind(world: Any):
    """One thread reads from a snapshot of before a freeze; another has followed the freeze already."""
    board, other = world.device(), world.device()
    keys = DeviceKeys(world.vault.open)
    with world.database.read() as early:
        assert early.execute(select(devices.c.status).where(devices.c.id == board.id)).scalar() == "active"
        set_status(world, board, "frozen", 99)
        assert load(world, keys, other.id.encode()) == {other.id: "active"}
        known = keys.load(early, [board.id.encode()])
    with world.database.read() as connection:
        refreshed = keys.refresh(connection, known, [board.id.encode()])
    assert refreshed.by_id()[board.id].status == "frozen"
    assert load(world, keys, board.id.encode()) == {board.id: "frozen"}


def test_a_status_that_changes_between_reading_and_settling_counts(world: Any, monkeypatch: Any):
    """The MAC is checked outside the transaction; the status is as of the transaction."""
    gateway, board = world.gateway(), world.device()
    from surge_backend.ingest import service

    read_reports = service.read_reports

    def retired_meanwhile(*arguments: Any) -> Any:
        set_status(world, board, "retired", 99)
        return read_reports(*arguments)

    monkeypatch.setattr(service, "read_reports", retired_meanwhile)
    assert world.verdicts(gateway, board.next()) == ["device_retired"]


def test_histories_follow_another_process(world: Any, reopen: Any):
    gateway, board = world.gateway(), world.device()
    other = reopen(world)
    sealed = [board.next() for _ in range(6)]
    for number, backend in enumerate((world, other, world, other)):
        assert backend.verdicts(gateway, *sealed[: number + 1]) == ["duplicate"] * number + ["accepted"]


def test_histories_after_a_rollback_are_those_of_the_database(world: Any, monkeypatch: Any):
    gateway, board = world.gateway(), world.device()
    sealed = [board.next() for _ in range(3)]
    world.send(gateway, sealed[0])

    def crash(*_: Any) -> None:
        raise RuntimeError("power loss")

    with monkeypatch.context() as patch:
        patch.setattr("surge_backend.ingest.settling._pay", crash)
        with pytest.raises(RuntimeError, match="power loss"):
            world.submit(gateway, gateway.seal([sealed[1], sealed[2]]))
    assert world.verdicts(gateway, sealed[2], sealed[1], sealed[0]) == ["accepted", "accepted", "duplicate"]


def test_a_rollback_here_and_a_batch_of_another_process_are_told_apart(
    world: Any, reopen: Any, monkeypatch: Any
):
    """The log is one entry longer either way; only one of the two entries was stored."""
    gateway, elsewhere, board = world.gateway(), world.gateway(), world.device()
    other = reopen(world)
    sealed = [board.next() for _ in range(4)]
    world.send(gateway, sealed[0])

    def crash(*_: Any) -> None:
        raise RuntimeError("power loss")

    with monkeypatch.context() as patch:
        patch.setattr("surge_backend.ingest.settling._pay", crash)
        with pytest.raises(RuntimeError, match="power loss"):
            world.submit(gateway, gateway.seal([sealed[1], sealed[2]]))
    other.send(elsewhere, world.device().next())
    assert world.verdicts(gateway, *sealed[1:]) == ["accepted"] * 3
    (boot,) = [boot for boot in world.rows(select(BOOTS)) if boot.device_id == board.id]
    places = [place for device_id, _, place in world.accepted() if device_id == board.id]
    assert [place.seq for place in places] == [0, 1, 2, 3]
    assert (boot.reports, boot.bytes, boot.seq_max) == (4, sum(place.bytes for place in places), 3)


def test_histories_remembered_are_bounded_and_equal_what_is_stored(world: Any):
    gateway = world.gateway()
    boards = [world.device() for _ in range(6)]
    for _ in range(3):
        world.send(gateway, *[board.next() for board in boards])
        for board in boards:
            board.restart()
    ids = [board.id for board in boards]
    small, large = Histories(64, remembered_max=2), Histories(64)
    with world.database.write() as connection:
        root = world.log.head(connection)[0].root
        assert small.load(connection, ids, root) == large.load(connection, ids, root)
        assert len(small._known) == 2
        assert small.load(connection, ids[:1], root) == large.load(connection, ids[:1], root)


def test_a_device_with_very_many_boots_keeps_few_in_memory(world: Any):
    gateway, board = world.gateway(), world.device()
    for _ in range(90):
        board.restart()
        world.send(gateway, board.next())
    histories = world.ingest._settler.histories
    with world.database.write() as connection:
        root = world.log.head(connection)[0].root
        kept = histories.load(connection, [board.id], root)[board.id]
        assert len(kept.boots()) == 66
        histories.forget()
        assert histories.load(connection, [board.id], root)[board.id] == kept
