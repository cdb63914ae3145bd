"""A hostile but honest history verifies, in full and in public; what can't be decided is said."""

import io
from collections import Counter
from typing import Any

import pytest
from databases import run_migration
from sqlalchemy import text

from surge_backend.audit import items
from surge_backend.audit.exporting import export_parts
from surge_backend.audit.framing import ExportUnreadable
from surge_backend.audit.items import End, Entry, Event, Header
from surge_backend.audit.verifying import verify_export
from surge_wire.verdicts import NAMES

from .conftest import Network, read_items, settlement_of, verify, write_items


def test_the_network_has_every_verdict(network: Network) -> None:
    found: Counter[int] = Counter()
    for item in read_items(network.export()):
        if isinstance(item, Entry):
            found.update(settlement_of(item).verdicts())
    assert set(found) == set(NAMES)


def test_an_honest_history_verifies_in_full(network: Network) -> None:
    report = verify(
        network.export(), report_keys=network.report_keys, log_public_key=network.world.log.public_key
    )
    assert report.findings == ()
    assert report.sound
    assert report.full
    assert report.key_given
    assert report.tree_size == report.checked["heads"] == report.checked["receipts"] == 10
    assert report.checked["verdicts"] == 34
    assert report.checked["MACs"] == 32  # all but what is malformed and of a stranger
    assert report.checked["stored reports"] == report.checked["accepted"]
    assert list(report.unchecked) == ["registry events", "when batches arrived"]


def test_without_keys_macs_are_taken_as_given_and_that_is_said(network: Network) -> None:
    report = verify(network.export())
    assert report.findings == ()
    assert "MACs of 32 reports" in report.unchecked
    assert not report.key_given


def test_the_public_part_verifies_and_holds_nothing_private(network: Network) -> None:
    data = network.export(items.PUBLIC)
    report = verify(data)
    assert report.findings == ()
    assert not report.full
    assert report.checked["heads"] == 10
    found = read_items(data)
    assert {type(item) for item in found} == {Header, Entry, End}
    assert all(item.batch is None for item in found if isinstance(item, Entry))


def test_an_export_holds_no_secret_and_no_name(network: Network) -> None:
    data = network.export()
    for board in network.devices.values():
        assert board.secret not in data
    assert b"device_enrolled" in data
    assert b"owner:" in data
    for name in (b"linux", b"bcrypt"):
        assert name not in data


def test_parts_joined_from_two_exports_are_one(network: Network) -> None:
    """How an export goes on where it was cut: from the next entry on, with a header of its own."""
    whole = read_items(network.export())
    rest = read_items(network.export(first=4))
    at = next(i for i, item in enumerate(whole) if isinstance(item, Entry) and item.index == 3) + 1
    assert whole[:at] + rest[1:] == whole
    assert verify(write_items(whole[:at] + rest[1:])).sound


def test_pages_of_the_public_part_say_where_to_go_on(network: Network) -> None:
    found = read_items(network.export(items.PUBLIC, whole=False, part_len=1))
    assert found[-1] == End(10, 1)
    assert len(found) == 3
    with pytest.raises(ExportUnreadable, match="cut short"):
        verify(write_items(found))


def test_an_export_while_batches_come_is_of_one_moment(own_network: Network) -> None:
    """Entries are read in several transactions; the tables are those of the last."""
    parts = export_parts(own_network.source(), items.FULL)
    begun = [next(parts)]
    own_network.world.now_ms += 1_000
    own_network.world.send(own_network.gateways[0], own_network.devices["plain"].seal(1, 3))
    report = verify_export(io.BytesIO(b"".join([*begun, *parts])))
    assert report.sound
    assert report.tree_size == 11


def test_an_empty_log_verifies(world: Any) -> None:
    network = Network(world, [], {})
    report = verify(network.export())
    assert report.sound
    assert report.tree_size == 0


@pytest.mark.parametrize("scope", [items.FULL, items.PUBLIC])
def test_heads_that_were_seen_before_are_found_again(network: Network, scope: int) -> None:
    whole = read_items(network.export())
    heads = [item.head for item in whole if isinstance(item, Entry)]
    assert verify(network.export(scope), heads=heads).checked["heads remembered"] == 10


def test_events_stand_before_the_entries_that_they_count_for(network: Network) -> None:
    size = 0
    for item in read_items(network.export()):
        if isinstance(item, Entry):
            size = item.index + 1
        elif isinstance(item, Event):
            assert item.tree_size == size


def test_events_that_a_migration_made_up_verify_too(own_network: Network) -> None:
    """A database from before there were events: every verdict follows from those made of its rows."""
    world = own_network.world
    created = (
        "UPDATE {0}s SET created_ms = (SELECT min(time_ms) FROM registry_events"
        " WHERE kind IN ('{0}_created', '{0}_enrolled') AND subject_id = {0}s.id)"
    )
    with world.database.write() as connection:
        for name in ("owner", "gateway", "device"):  # the fixtures write no times of their own
            connection.execute(text(created.format(name)))
        connection.execute(text("DROP TABLE registry_events"))
    run_migration(world.database, "0003")
    assert verify(own_network.export(), report_keys=own_network.report_keys).findings == ()
