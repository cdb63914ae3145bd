"""What a verification found: lies, each with its place, what had to be there and what is.

Place in the flow: every check of ``audit`` reports here; the command prints the result. Rule kept:
verification ends with the first lie unless more were asked for, since what follows a lie may only follow
from it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

FINDINGS_MAX: Final = 1_000  # that anybody may ask for
SHOWN_LEN_MAX: Final = 300  # characters of what is found; a hostile value is cut

# Kinds, by the record that lies.
LOG_KEY: Final = "log_key"
HEAD: Final = "head"
NODE: Final = "node"
ENTRY: Final = "entry"
SETTLEMENT: Final = "settlement"
RECEIPT: Final = "receipt"
BATCH: Final = "batch"
CHAIN: Final = "chain"
VERDICT: Final = "verdict"
REJECTION: Final = "rejection"
TARIFF: Final = "tariff"
CREDIT: Final = "credit"
TRANSFER: Final = "transfer"
ACCOUNT: Final = "account"
EVENT: Final = "event"
GATEWAY: Final = "gateway"
DEVICE: Final = "device"
STORED_REPORT: Final = "stored_report"
HOLD: Final = "hold"
WINDOWS: Final = "windows"


@dataclass(frozen=True, slots=True)
class Finding:
    """One lie."""

    kind: str
    what: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        """On one line."""
        return f"{self.kind}: {self.what} ({self.where}): expected {self.expected}, found {self.found}"


class EnoughFound(Exception):
    """As many lies as were asked for."""


@dataclass
class Findings:
    """Findings so far, counts of what was checked, and what couldn't be."""

    wanted: int = 1
    found: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    unchecked: dict[str, str] = field(default_factory=dict)  # what: why

    def lie(self, kind: str, what: str, where: str, expected: Any, found: Any) -> None:
        """Note a lie. Raises EnoughFound with the last that is wanted."""
        self.found.append(Finding(kind, shown(what), shown(where), shown(expected), shown(found)))
        if len(self.found) >= self.wanted:
            raise EnoughFound

    def equal(self, kind: str, what: str, where: str, expected: Any, found: Any) -> bool:
        """Whether both are equal; a lie if not."""
        if expected == found:
            return True
        self.lie(kind, what, where, expected, found)
        return False


def shown(value: Any) -> str:
    """A value as one bounded line that a terminal takes."""
    if isinstance(value, bytes):
        text = value[:SHOWN_LEN_MAX].hex()
    elif isinstance(value, str):
        text = value
    else:
        text = "nothing" if value is None else _listed(value)
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= SHOWN_LEN_MAX else text[: SHOWN_LEN_MAX - 1] + "…"


def _listed(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(shown(part) for part in value[:16]) + (", …]" if len(value) > 16 else "]")
    return str(value)


def entry_place(index: int, batch_hash: bytes | None = None) -> str:
    """The words for an entry of the log."""
    return f"entry {index}" if batch_hash is None else f"entry {index}, batch {batch_hash.hex()}"
