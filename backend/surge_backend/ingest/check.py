"""Do the devices' rows agree with the places of accepted reports? Part of invariant 1.

Place in the flow: ``invariants`` runs this. One pass over everything that is accepted, one boot in memory at
a time.

Does not: repair, or look into batches.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from surge_backend.db.boots import BOOTS
from surge_backend.db.schema import accepted_runs, device_totals
from surge_backend.ingest.places import Place, decode_places
from surge_backend.verify.gaps import decode_gaps, in_gap

ROWS_AT_ONCE: Final = 500


def check_accepted(connection: Connection, accepted: Counter[int], start: int = 0) -> Iterator[str]:
    """Violations. Counts into ``accepted`` how many reports stand in each batch from ``start`` on; if that
    isn't the first, only counts."""
    for boot in connection.execute(select(BOOTS).execution_options(yield_per=ROWS_AT_ONCE)):
        recent = list(decode_places(boot.recent))
        _count(recent, accepted, start)
        if start == 0:
            runs = list(_runs(connection, boot))
            _count(runs, accepted, start)
            yield from _boot(boot, [*runs, *recent])
    if start == 0:
        yield from _totals(connection)
        return
    for (places,) in connection.execute(
        select(accepted_runs.c.places)
        .where(accepted_runs.c.log_index >= start)
        .execution_options(yield_per=ROWS_AT_ONCE)
    ):
        _count(decode_places(places), accepted, start)


def _count(places: Iterable[Place], accepted: Counter[int], start: int) -> None:
    accepted.update(place.log_index for place in places if place.log_index >= start)


def _runs(connection: Connection, boot: Row[Any]) -> Iterator[Place]:
    own = (accepted_runs.c.device_id == boot.device_id) & (accepted_runs.c.boot == boot.boot)
    for places in connection.execute(select(accepted_runs.c.places).where(own)).scalars():
        yield from decode_places(places)


def _boot(boot: Row[Any], places: list[Place]) -> Iterator[str]:
    name = f"boot {boot.boot} of {boot.device_id}"
    numbers = {place.seq for place in places}
    if len(numbers) != len(places):
        yield f"{name} has {len(places) - len(numbers)} reports twice"
    found = (len(places), sum(place.samples for place in places), sum(place.bytes for place in places))
    if found != (boot.reports, boot.samples, boot.bytes):
        yield (
            f"{name} counts {boot.reports} reports, {boot.samples} samples, {boot.bytes} bytes;"
            f" of {found[0]}, {found[1]}, {found[2]} it is known where they stand"
        )
    gaps = decode_gaps(boot.gaps)
    known = sum(seq >= boot.gaps_from for seq in numbers)
    missing = sum(last - first + 1 for first, last in gaps)
    if (
        max(numbers, default=-1) != boot.seq_max
        or known + missing != boot.seq_max + 1 - boot.gaps_from
        or any(in_gap(gaps, seq) for seq in numbers)
    ):
        yield f"{name} has other numbers than its gaps say"


def _totals(connection: Connection) -> Iterator[str]:
    counted = (
        select(
            BOOTS.c.device_id,
            *(func.sum(BOOTS.c[name]).label(name) for name in ("reports", "samples", "bytes")),
        )
        .group_by(BOOTS.c.device_id)
        .subquery()
    )
    differs = device_totals.c.reports != counted.c.reports
    differs |= device_totals.c.samples != counted.c.samples
    differs |= device_totals.c.bytes != counted.c.bytes
    joined = device_totals.join(counted, counted.c.device_id == device_totals.c.device_id)
    query = select(device_totals.c.device_id).select_from(joined).where(differs)
    for device_id in connection.execute(query).scalars():
        yield f"the totals of {device_id} are not those of its boots"
