"""From judged reports to work that is priced: pure, the same for the backend and for an auditor.

Place in the flow: ``verify.judging`` gave the histories of the devices that had a report accepted;
``pricing`` prices what this counts of them.

Does not: read or write. The one thing it changes is each history's own part (``microcredits``, ``carry``),
which `DeviceHistory` keeps for its owner to see.
"""

from collections.abc import Mapping

from surge_backend.ledger.pricing import NUMERATORS_PER_MICROCREDIT, Tariff, Work, owner_account
from surge_backend.verify.device import DeviceKey
from surge_backend.verify.history import DeviceHistory


def count_work(
    tariff: Tariff,
    before: Mapping[str, DeviceHistory],
    after: Mapping[str, DeviceHistory],
    devices: Mapping[str, DeviceKey],
) -> list[Work]:
    """What each owner's devices delivered between the histories ``before`` and ``after``."""
    by_owner: dict[str, list[int]] = {}
    of_sample, of_byte = tariff.owner_numerators(1, 0), tariff.owner_numerators(0, 1)
    for device_id, history in after.items():
        known = before.get(device_id)
        samples, length = history.samples, history.bytes
        if known is not None:
            samples, length = samples - known.samples, length - known.bytes
        due = history.carry + samples * of_sample + length * of_byte
        if due >= NUMERATORS_PER_MICROCREDIT:
            paid, due = divmod(due, NUMERATORS_PER_MICROCREDIT)
            history.microcredits += paid
        history.carry = due
        owner_id = devices[device_id].owner_id
        counted = by_owner.get(owner_id)
        if counted is None:
            by_owner[owner_id] = [samples, length]
        else:
            counted[0] += samples
            counted[1] += length
    return [Work(owner_account(owner), samples, length) for owner, (samples, length) in by_owner.items()]
