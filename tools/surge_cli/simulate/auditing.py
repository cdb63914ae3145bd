"""The backend's own export, verified as a stranger with the devices' keys would: what ``surge verify`` does.

Place in the flow: part of the books, on the stopped backend's database. Rule kept: the export goes through a
file, as it does for a stranger; the keys are the simulated devices' own, so MACs are checked as well.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from surge_backend.audit.exporting import Source, export_parts
from surge_backend.audit.framing import ExportUnreadable
from surge_backend.audit.items import FULL
from surge_backend.audit.verifying import Options, verify_export
from surge_backend.db.engine import Database
from surge_backend.verify.limits import DEFAULT_LIMITS

FINDINGS_MAX = 10
_NS_PER_MS = 1_000_000


def audit(database: Database, log_public_key: bytes, report_keys: Mapping[str, bytes]) -> list[str]:
    """Every lie found, in words; empty where the export is sound and complete."""
    source = Source(database, log_public_key, lambda: time.time_ns() // _NS_PER_MS, DEFAULT_LIMITS)
    with tempfile.NamedTemporaryFile(prefix="surge-export-") as file:
        for part in export_parts(source, FULL):
            file.write(part)
        file.flush()
        try:
            report = verify_export(Path(file.name), Options(log_public_key, {}, report_keys, FINDINGS_MAX))
        except ExportUnreadable as error:
            return [str(error)]
    return [
        f"{one.kind}: {one.what}, {one.where}: expected {one.expected}, found {one.found}"
        for one in report.findings
    ]
