"""The tables at the end of an export against what was computed: what owners and gateways are shown.

Place in the flow: the last part of ``verifying``, after all entries: rows of the registry, of devices' totals
and boots, of accepted reports, of holds and accounts.

Rule kept: every row that has to be there is there once, says what was computed, and there is no other.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from surge_backend.audit import findings as kinds
from surge_backend.audit import items
from surge_backend.audit.findings import Findings
from surge_backend.audit.items import Rows
from surge_backend.audit.money_audit import MoneyAudit
from surge_backend.audit.registry_audit import RegistryAudit
from surge_backend.audit.shapes import Row
from surge_backend.audit.verdict_audit import VerdictAudit
from surge_backend.ledger.posting import KIND_ISSUANCE, KIND_OWNER
from surge_backend.ledger.pricing import ISSUANCE, owner_account

_REGISTRY_COLUMNS: Final = ("owner", "gateway", "status")
_TOTAL_COLUMNS: Final = (
    "newest boot",
    "reports",
    "samples",
    "bytes",
    "micro-credits",
    "carry",
    "time of the last report",
    "last command executed",
)
_BOOT_COLUMNS: Final = (
    "newest seq",
    "declared end of the boot before",
    "time first seen",
    "time last seen",
    "reports",
    "samples",
    "bytes",
)
_REPORT_COLUMNS: Final = ("digest", "log index", "position", "samples", "bytes")
_GATEWAY_COLUMNS: Final = ("owner", "public key", "status", "next seq", "hash of the last payload")
_TARIFF_COLUMNS: Final = ("start", "price of a sample", "price of a KiB", "gateway's share")
_HOLD_COLUMNS: Final = ("device", "account", "amount", "time made", "time released")
_ACCOUNT_COLUMNS: Final = ("kind", "owner", "leave to go below zero", "balance", "carry")


class RowsAudit:
    """Rows so far. `take` each item of rows, then `finish`."""

    def __init__(
        self, findings: Findings, registry: RegistryAudit, verdicts: VerdictAudit, money: MoneyAudit
    ) -> None:
        self._findings = findings
        self._registry = registry
        self._verdicts = verdicts
        self._money = money
        self._seen: dict[int, set[Any]] = {kind: set() for kind in items.ROW_SHAPES}
        self._counted: dict[int, Counter[str]] = {items.BOOTS: Counter(), items.REPORTS: Counter()}
        self._last: dict[int, tuple[Any, ...]] = {}
        self._account_owners: dict[str, str | None] = {}

    def take(self, rows: Rows) -> None:
        """Compare rows of one table."""
        handler = _HANDLERS[rows.kind]
        for row in rows.rows:
            handler(self, row)

    def finish(self) -> None:
        """What had to be there and was not."""
        known, made = self._registry, self._verdicts
        self._missing(items.TARIFFS, kinds.TARIFF, "tariff", range(1, len(known.tariffs) + 1))
        self._missing(items.GATEWAYS, kinds.GATEWAY, "gateway", known.gateways)
        self._missing(items.DEVICES, kinds.DEVICE, "device", known.devices)
        for device_id, history in made.histories.items():
            boots = len(history.boots()) + len(made.old_boots.get(device_id, ()))
            self._count(items.BOOTS, kinds.DEVICE, "boots", device_id, boots)
        for device_id, count in made.accepted.devices():
            self._count(items.REPORTS, kinds.STORED_REPORT, "accepted reports", device_id, count)
        self._missing(items.HOLDS, kinds.HOLD, "hold", range(1, len(self._money.holds) + 1))
        moved = [account for account, balance in self._money.balances.items() if balance]
        carried = [account for account, carry in self._money.carries.items() if carry]
        self._missing(items.ACCOUNTS, kinds.ACCOUNT, "account", {*moved, *carried})
        total = sum(self._money.balances.values())
        self._findings.equal(kinds.ACCOUNT, "all transfers together don't sum to zero", "ledger", 0, total)

    def _missing(self, table: int, kind: str, name: str, expected: Any) -> None:
        for key in sorted(set(expected) - self._seen[table]):
            self._findings.lie(kind, f"a {name} has no row", f"{name} {key}", "a row", None)

    def _count(self, table: int, kind: str, name: str, device_id: str, expected: int) -> None:
        what = f"rows of {name} are missing, or too many"
        stored = self._counted[table][device_id]
        self._findings.equal(kind, what, f"device {device_id}", expected, stored)

    def _once(self, table: int, kind: str, name: str, key: Any, expected: Any) -> bool:
        """Whether a row of that key may be there; a lie if not, or if it was there before."""
        where = f"{name} {key}"
        if key in self._seen[table]:
            self._findings.lie(kind, f"a {name} has two rows", where, "one row", "two")
            return False
        self._seen[table].add(key)
        if key not in expected:
            self._findings.lie(kind, f"a {name} that can't be there", where, "no row", "a row")
            return False
        return True

    def _rising(self, table: int, kind: str, name: str, key: tuple[Any, ...]) -> None:
        """Rows of one device rise, so that none can be there twice."""
        last = self._last.get(table)
        if last is not None and last[0] == key[0] and last >= key:
            self._findings.lie(kind, f"a {name} has two rows", f"device {key[0]}", f"after {last}", key)
        self._last[table] = key
        self._counted[table][key[0]] += 1

    def _compare(self, kind: str, where: str, columns: tuple[str, ...], expected: Row, found: Row) -> None:
        for column, wanted, given in zip(columns, expected, found, strict=True):
            self._findings.equal(kind, f"{column} stored wrongly", where, wanted, given)

    def _tariff(self, row: Row) -> None:
        version, *found = row
        tariffs = self._registry.tariffs
        if self._once(items.TARIFFS, kinds.TARIFF, "tariff", version, range(1, len(tariffs) + 1)):
            tariff = tariffs[version - 1]
            prices = (tariff.sample_microcredits, tariff.kib_microcredits, tariff.gateway_share_bp)
            expected = (tariff.valid_from_ms, *prices)
            self._compare(kinds.TARIFF, f"tariff {version}", _TARIFF_COLUMNS, expected, tuple(found))
            self._findings.checked["tariffs"] += 1

    def _gateway(self, row: Row) -> None:
        gateway_id, owner_id, key, status, next_seq, chain_hash = row
        if self._once(items.GATEWAYS, kinds.GATEWAY, "gateway", gateway_id, self._registry.gateways):
            known = self._registry.gateways[gateway_id]
            expected = (known.owner_id, known.public_key, known.status, known.next_seq, known.chain_hash)
            found = (owner_id, key, status, next_seq, chain_hash)
            self._compare(kinds.GATEWAY, f"gateway {gateway_id}", _GATEWAY_COLUMNS, expected, found)
            self._findings.checked["gateways"] += 1

    def _device(self, row: Row) -> None:
        device_id = row[0]
        if not self._once(items.DEVICES, kinds.DEVICE, "device", device_id, self._registry.devices):
            return
        where = f"device {device_id}"
        known = self._registry.devices[device_id]
        expected = (known.owner_id, known.gateway_id, known.status)
        self._compare(kinds.DEVICE, where, _REGISTRY_COLUMNS, expected, row[1:4])
        history = self._verdicts.histories.get(device_id)
        totals: Row = (None,) * len(_TOTAL_COLUMNS)
        if history is not None:
            counted = (history.boot_max, history.reports, history.samples, history.bytes)
            earned = (history.microcredits, history.carry)
            totals = (*counted, *earned, history.last_report_ms, history.command_counter)
        self._compare(kinds.DEVICE, where, _TOTAL_COLUMNS, totals, row[4:])
        self._findings.checked["devices"] += 1

    def _boot(self, row: Row) -> None:
        device_id, boot, *found = row
        self._rising(items.BOOTS, kinds.DEVICE, "boot", (device_id, boot))
        history = self._verdicts.histories.get(device_id)
        known = None if history is None else history.boots().get(boot)
        if known is None:
            known = self._verdicts.old_boots.get(device_id, {}).get(boot)
        where = f"device {device_id}, boot {boot}"
        if known is None:
            self._findings.lie(kinds.DEVICE, "a boot that can't be there", where, "no row", row)
            return
        times = (known.seq_max, known.previous_end, known.first_seen_ms, known.last_seen_ms)
        expected = (*times, known.reports, known.samples, known.bytes)
        self._compare(kinds.DEVICE, where, _BOOT_COLUMNS, expected, tuple(found))

    def _report(self, row: Row) -> None:
        device_id, boot, seq, log_index, position, digest, samples, length = row
        self._rising(items.REPORTS, kinds.STORED_REPORT, "report", (device_id, boot, seq))
        facts = self._verdicts.accepted.facts(device_id, boot, seq)
        where = f"device {device_id}, boot {boot}, seq {seq}"
        if facts is None:
            what = "a report is stored as accepted and never was"
            self._findings.lie(kinds.STORED_REPORT, what, where, "no row", row)
            return
        found = (digest, log_index, position, samples, length)
        if facts != found:
            self._compare(kinds.STORED_REPORT, where, _REPORT_COLUMNS, facts, found)
        self._findings.checked["stored reports"] += 1

    def _hold(self, row: Row) -> None:
        number = len(self._seen[items.HOLDS]) + 1  # the database numbers them; their order is what counts
        holds = self._money.holds
        if self._once(items.HOLDS, kinds.HOLD, "hold", number, range(1, len(holds) + 1)):
            hold = holds[number - 1]
            expected = (hold.device_id, hold.account, hold.amount, hold.created_ms, hold.released_ms)
            self._compare(kinds.HOLD, f"hold {number}", _HOLD_COLUMNS, expected, row[1:])
            self._findings.checked["holds"] += 1

    def _account(self, row: Row) -> None:
        account, *found = row
        where = f"account {account}"
        owners = self._account_owners
        if not owners:  # nobody comes any more once the tables begin
            owners.update(
                {owner_account(owner): owner for owner in self._registry.owners}, **{ISSUANCE: None}
            )
        if self._once(items.ACCOUNTS, kinds.ACCOUNT, "account", account, owners):
            owner = owners[account]
            kind = KIND_ISSUANCE if owner is None else KIND_OWNER
            sums = (self._money.balances.get(account, 0), self._money.carries.get(account, 0))
            expected = (kind, owner, owner is None, *sums)
            self._compare(kinds.ACCOUNT, where, _ACCOUNT_COLUMNS, expected, tuple(found))
            self._findings.checked["accounts"] += 1


_HANDLERS: Final[dict[int, Callable[[RowsAudit, Row], None]]] = {
    items.TARIFFS: RowsAudit._tariff,
    items.GATEWAYS: RowsAudit._gateway,
    items.DEVICES: RowsAudit._device,
    items.BOOTS: RowsAudit._boot,
    items.REPORTS: RowsAudit._report,
    items.HOLDS: RowsAudit._hold,
    items.ACCOUNTS: RowsAudit._account,
}
