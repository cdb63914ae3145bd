"""Writes ``protocol/vectors/*.json``; ``tests/vectors`` fails where the files and this disagree.

The cases are in ``vector_cases``. Once a format is released its vectors are frozen: a change then means a
new wire version, never an edited file.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "protocol"), str(ROOT / "tools")]

from vector_cases.batches import batch_cases  # noqa: E402
from vector_cases.cbor import cbor_cases  # noqa: E402
from vector_cases.crypto import cose_cases, ed25519_cases, hkdf_cases  # noqa: E402
from vector_cases.log import log_cases  # noqa: E402
from vector_cases.messages import ack_cases, command_cases, topic_cases  # noqa: E402
from vector_cases.packs import senml_cases  # noqa: E402
from vector_cases.reports import report_cases  # noqa: E402
from vector_cases.trees import merkle_cases  # noqa: E402

FILES: dict[str, tuple[str, Any]] = {
    "cbor": ("CBOR subset: RFC 8949 appendix A and the subset's own edges", cbor_cases),
    "hkdf": ("HMAC-SHA-256 (RFC 4231), HKDF-SHA-256 (RFC 5869) and the keys of one device", hkdf_cases),
    "cose": ("COSE_Mac0 and COSE_Sign1 examples of the COSE working group", cose_cases),
    "ed25519": ("Ed25519 (RFC 8032 section 7.1), hosts only", ed25519_cases),
    "senml": ("SenML packs: [name, unit, value, sum, time_s, update_time_s] per record", senml_cases),
    "report": ("Report envelopes; 'maced' is the byte string under the MAC", report_cases),
    "ack": ("Acks", ack_cases),
    "command": ("Commands; 'maced' is the byte string under the MAC", command_cases),
    "batch": ("Batches; 'signed' is the byte string under the signature", batch_cases),
    "merkle": ("Merkle trees (RFC 9162 section 2.1) on the reference tree of RFC 6962", merkle_cases),
    "log": ("Settlements, receipts (RFC 9942), tree heads and submission answers", log_cases),
    "topics": ("MQTT topics", topic_cases),
}


def render(name: str) -> str:
    """The text of one vector file."""
    about, make = FILES[name]
    return json.dumps({"about": about, "cases": make()}, indent=1, ensure_ascii=True) + "\n"


def main() -> None:
    folder = ROOT / "protocol" / "vectors"
    for name in FILES:
        (folder / f"{name}.json").write_text(render(name), encoding="ascii")


if __name__ == "__main__":
    main()
