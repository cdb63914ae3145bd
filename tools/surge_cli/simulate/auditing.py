"""The backend's own export, verified as a stranger with the devices' keys would: what ``surge verify`` does.

Place in the flow: part of the books, on the stopped backend's database. Rule kept: the keys are the simulated
devices' own, so MACs are checked as well.
"""

import time
from collections.abc import Mapping

from surge_backend.audit.direct import verify_database
from surge_backend.audit.exporting import Source
from surge_backend.audit.framing import ExportUnreadable
from surge_backend.audit.verifying import Options
from surge_backend.db.engine import Database
from surge_backend.verify.limits import DEFAULT_LIMITS

FINDINGS_MAX = 10
_NS_PER_MS = 1_000_000


def audit(database: Database, log_public_key: bytes, report_keys: Mapping[str, bytes]) -> list[str]:
    """Every lie found, in words; empty where the export is sound and complete."""
    source = Source(database, log_public_key, lambda: time.time_ns() // _NS_PER_MS, DEFAULT_LIMITS)
    options = Options(log_public_key, report_keys=report_keys, findings_max=FINDINGS_MAX)
    try:
        report = verify_database(source, options)
    except ExportUnreadable as error:
        return [str(error)]
    return [str(finding) for finding in report.findings]
