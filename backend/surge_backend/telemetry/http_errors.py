"""What a store's HTTP answer means: stored, try later, or these points will never fit.

Place in the flow: between the HTTP clients of the InfluxDB stores and the port's errors. Pure.

Does not: send or retry. The projector retries.

Rules it keeps: a message repeats at most ANSWER_SHOWN_LEN_MAX characters of an answer, and never a secret,
even where a server echoes it (threat 25).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from surge_backend.telemetry.store import StoreError, StoreUnavailable

ANSWER_SHOWN_LEN_MAX: Final = 300

# The request is wrong and will be tomorrow: for a write, some point in it is.
_REFUSED: Final = frozenset({400, 413, 422})
_REMEDIES: Final = {
    401: "check the telemetry store's token, or its user and password",
    403: "give the telemetry store's token (or user) the right to read and write there",
    404: "check the telemetry store's URL, and that the database or bucket exists",
    429: "the store limits our rate: writing goes on by itself, later",
}
_DROPPED: Final = re.compile(r"\bdropped=(\d{1,9})\b")
_VISIBLE: Final = re.compile(r"[^\x20-\x7e\xa0-\uffff]+")


class RequestRefused(StoreError):
    """The server refuses what was sent. ``dropped`` is how many points it says it left out, None if it
    doesn't."""

    def __init__(self, reason: str, dropped: int | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.dropped = dropped


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes secrets out of text."""

    secrets: tuple[str, ...]

    @classmethod
    def of(cls, secrets: Iterable[str]) -> Redactor:
        """A redactor of the secrets that are set; the longest first, should one hold another."""
        return cls(tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True)))

    def clean(self, text: str) -> str:
        """``text`` on one line, without secrets."""
        if self.secrets:
            text = re.sub("|".join(map(re.escape, self.secrets)), "[secret]", text)
        return _VISIBLE.sub(" ", text).strip()


def failure_of(
    status: int, body: str, retry_after: str | None, where: str, redactor: Redactor
) -> StoreUnavailable | RequestRefused:
    """The error for an answer that isn't 2xx. ``where`` names the server and the call, without
    credentials."""
    reason = redactor.clean(_reason(body))[:ANSWER_SHOWN_LEN_MAX] or "no reason given"
    if status in _REFUSED:
        dropped = _DROPPED.search(reason)
        return RequestRefused(f"{where} answered {status}: {reason}", int(dropped[1]) if dropped else None)
    remedy = _REMEDIES.get(status)
    if remedy is None:
        remedy = (
            "see the store's log; writing goes on by itself"
            if status >= 500
            else "check the telemetry store's URL"
        )
    return StoreUnavailable(f"{where} answered {status}: {reason}", remedy, retry_after_s(retry_after))


def _reason(body: str) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return body
    if isinstance(answer, dict):
        for key in ("error", "message"):
            if isinstance(answer.get(key), str):
                return str(answer[key])
    return body


def retry_after_s(header: str | None) -> float | None:
    """The seconds of a Retry-After header; None for a date, where our own back-off serves as well."""
    text = (header or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
