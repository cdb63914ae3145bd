"""What a running backend shows everyone, against the export that was verified: its key, heads and proofs.

Place in the flow: ``surge verify URL`` asks once the export is sound. It is the same log for the public and
for the auditor, or there are two.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from surge_backend.audit import findings as kinds
from surge_backend.audit.fetching import Backend, get
from surge_backend.audit.findings import EnoughFound, Finding, Findings
from surge_backend.audit.verifying import Report
from surge_wire import ed25519
from surge_wire.errors import DecodeError
from surge_wire.limits import PUBLIC_KEY_LEN
from surge_wire.receipt import open_tree_head, verify_consistency_receipt


def check_served(backend: Backend, report: Report) -> tuple[Finding, ...]:
    """Every lie in what the backend serves beside the export. Raises UserError."""
    findings = Findings()
    try:
        _check(backend, report, findings)
    except EnoughFound:
        pass
    return tuple(findings.found)


def _check(backend: Backend, report: Report, findings: Findings) -> None:
    key = _json(get(backend, "/v1/log/key")).get("log_public_key")
    what = "the backend shows everyone another log key than its auditors"
    findings.equal(kinds.LOG_KEY, what, "/v1/log/key", encode_key(report.log_public_key), key)
    verify = ed25519.verifier(report.log_public_key)
    newest = get(backend, "/v1/log/head")
    try:
        head = open_tree_head(newest, verify)
    except DecodeError as error:
        what = "the newest head isn't signed by the log's key"
        findings.lie(kinds.HEAD, what, "/v1/log/head", "a signed head", str(error))
        return
    if head.tree_size < report.tree_size:
        what = "the log that everyone is shown is shorter than what was verified"
        where = f"head of {head.tree_size} entries"
        findings.lie(kinds.HEAD, what, where, f"at least {report.tree_size}", head.tree_size)
    if report.tree_size == 0:
        return  # every log extends an empty one
    receipt = get(backend, "/v1/log/consistency", **{"from": report.tree_size, "to": head.tree_size})
    try:
        sizes = verify_consistency_receipt(receipt, report.root, head.root, verify)
        asked = (report.tree_size, head.tree_size)
        findings.equal(kinds.HEAD, "a proof of consistency is for other trees", "log", asked, sizes)
    except DecodeError as error:
        what = "the log that everyone is shown is not the one that was verified"
        where = f"heads of {report.tree_size} and {head.tree_size} entries"
        findings.lie(kinds.HEAD, what, where, "a proof that one extends the other", str(error))


def encode_key(key: bytes) -> str:
    """A key in base64url without padding, as the API shows it."""
    return urlsafe_b64encode(key).decode().rstrip("=")


def decode_key(text: str) -> bytes | None:
    """The key that `encode_key` gives for, None for any other text."""
    try:
        key = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return key if len(key) == PUBLIC_KEY_LEN and encode_key(key) == text else None


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}
