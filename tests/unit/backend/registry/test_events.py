"""Registry events say from which entry on a change counts, also where a migration made them up."""

from typing import Any

from databases import run_migration
from sqlalchemy import select, text

from surge_backend.db.schema import registry_events
from surge_backend.ledger.pricing import Tariff
from surge_backend.ledger.tariffs import add_tariff
from surge_backend.registry.device_rows import retire_device, unfreeze_device
from surge_backend.registry.gateway_rows import revoke_gateway
from surge_wire.cbor import decode

Event = tuple[int, str, str, dict[int, Any]]


def events_of(world: Any) -> list[Event]:
    rows = world.rows(select(registry_events).order_by(registry_events.c.ordinal))
    assert [row.ordinal for row in rows] == list(range(1, len(rows) + 1))
    return [(row.tree_size, row.kind, row.subject_id, decode(row.detail)) for row in rows]


def eventful(world: Any) -> dict[str, str]:
    """Five entries, with everything that can happen between them; gives the ids."""
    gateway, other = world.gateway(), world.gateway()
    clone, sold = world.device(), world.device(gateway=other)

    def later() -> int:
        world.now_ms += 1_000
        return int(world.now_ms)

    later()
    world.send(gateway, clone.seal(1, 0), sold.seal(1, 0))
    later()
    world.send(gateway, clone.seal(1, 0, samples=4))
    with world.database.write() as connection:
        unfreeze_device(connection, clone.id, "looked at", later())
    later()
    world.send(gateway, clone.seal(1, 1))
    with world.database.write() as connection:
        retire_device(connection, sold.id, None, "sold", later())
        add_tariff(connection, Tariff(2, world.now_ms, sample_microcredits=20), world.now_ms)
    later()
    late = world.device()
    later()
    world.send(gateway, sold.seal(1, 1), late.seal(1, 0))
    with world.database.write() as connection:
        revoke_gateway(connection, other.id, None, later())
        revoke_gateway(connection, other.id, None, later())
    return {"clone": clone.id, "sold": sold.id, "late": late.id, "other": other.id}


def test_each_change_is_an_event_at_the_size_of_the_log(world: Any) -> None:
    ids = eventful(world)
    found = events_of(world)
    assert (0, "tariff_added", "1", {5: 0, 6: 10, 7: 50, 8: 2_000}) in found
    assert [event[:3] for event in found if event[0] > 0] == [
        (2, "device_frozen", ids["clone"]),
        (2, "device_unfrozen", ids["clone"]),
        (3, "device_retired", ids["sold"]),
        (3, "tariff_added", "2"),
        (3, "owner_created", next(event[2] for event in found if event[:2] == (3, "owner_created"))),
        (3, "device_enrolled", ids["late"]),
        (4, "gateway_revoked", ids["other"]),
    ]
    assert next(event[3] for event in found if event[1] == "device_frozen") == {4: 1}


def test_a_migration_makes_the_same_events_from_the_rows(world: Any) -> None:
    eventful(world)
    with world.database.write() as connection:
        # as the registry has them; the fixtures write no times of their own
        connection.execute(
            text(
                "UPDATE devices SET created_ms = (SELECT min(time_ms) FROM registry_events"
                " WHERE kind = 'device_enrolled' AND subject_id = devices.id)"
            )
        )
        connection.execute(
            text(
                "UPDATE owners SET created_ms = (SELECT min(time_ms) FROM registry_events"
                " WHERE kind = 'owner_created' AND subject_id = owners.id)"
            )
        )
        connection.execute(
            text(
                "UPDATE gateways SET created_ms = (SELECT min(time_ms) FROM registry_events"
                " WHERE kind = 'gateway_enrolled' AND subject_id = gateways.id)"
            )
        )
    before = events_of(world)
    with world.database.write() as connection:
        connection.execute(text("DROP TABLE registry_events"))
    run_migration(world.database, "0003")
    assert sorted(events_of(world), key=repr) == sorted(before, key=repr)
