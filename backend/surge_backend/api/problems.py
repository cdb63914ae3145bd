"""Problem details (RFC 9457): the one shape of every error that the API answers.

Place in the flow: routes and guards raise `Problem`; `handlers` turns it, validation errors and anything else
that goes wrong into `application/problem+json`. Does not decide what is wrong.

Rules kept: each kind of problem is declared once here, with status and title; the answer says what happened,
and where there is one, the remedy; it never repeats what the client sent, which may be a secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTENT_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:surge:problem:"


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem: `code` is stable and goes into `type`, `title` is the same for every occurrence."""

    code: str
    status: int
    title: str
    remedy: str = ""


MALFORMED_REQUEST = ProblemKind("malformed_request", 400, "The request can't be read")
UNAUTHENTICATED = ProblemKind(
    "unauthenticated",
    401,
    "No valid token",
    "send `Authorization: Bearer <token>` with a token that has neither expired nor been revoked",
)
FORBIDDEN = ProblemKind("forbidden", 403, "The token doesn't allow this")
GATEWAY_REVOKED = ProblemKind(
    "gateway_revoked", 403, "The gateway is revoked", "enrol the gateway anew with another key"
)
SIGNATURE_INVALID = ProblemKind(
    "signature_invalid", 403, "The batch's signature is not the gateway's", "sign with the enrolled key"
)
NOT_FOUND = ProblemKind("not_found", 404, "No such thing, or not yours")
METHOD_NOT_ALLOWED = ProblemKind("method_not_allowed", 405, "The resource has no such method")
NOT_ACCEPTABLE = ProblemKind("not_acceptable", 406, "No representation that the client accepts")
REQUEST_TIMEOUT = ProblemKind(
    "request_timeout", 408, "The request's body came too slowly", "send it again, in one go"
)
CONFLICT = ProblemKind("conflict", 409, "In conflict with what is stored")
ENROLMENT_USED = ProblemKind(
    "enrolment_used",
    409,
    "The enrolment token was used with another key",
    "the enrolled key stays; ask the owner for a new enrolment token",
)
BATCH_CONFLICT = ProblemKind(
    "batch_conflict",
    409,
    "Another batch has this sequence number",
    "the stored batch stays; an alarm is raised",
)
OUT_OF_ORDER = ProblemKind("out_of_order", 409, "Not the next batch", "send the batch with the expected seq")
CHAIN_BROKEN = ProblemKind("chain_broken", 409, "The batch doesn't continue the gateway's hash chain")
LIMIT_REACHED = ProblemKind("limit_reached", 409, "A limit is reached")
TOO_LARGE = ProblemKind("too_large", 413, "The body is too large")
UNSUPPORTED_TYPE = ProblemKind("unsupported_media_type", 415, "The body is of another type")
INVALID = ProblemKind("invalid", 422, "The request doesn't fit its description")
BATCH_MALFORMED = ProblemKind("batch_malformed", 422, "The batch can't be read")
TOO_MANY_REQUESTS = ProblemKind("too_many_requests", 429, "Too many requests", "wait, then send it again")
INTERNAL = ProblemKind("internal", 500, "The backend failed", "see the backend's log for this request_id")
STORE_BUSY = ProblemKind("store_busy", 503, "The database is locked", "nothing was stored; send it again")
STORE_LOST = ProblemKind(
    "store_lost",
    503,
    "The database doesn't answer",
    "send it again; no batch is stored twice",
)
STORE_FULL = ProblemKind(
    "store_full", 503, "The disk is full", "nothing was stored; free space, send it again"
)
LOG_STOPPED = ProblemKind(
    "log_stopped", 503, "The log doesn't sign", "the log failed its own check; see the backend's log"
)
KEY_UNREADABLE = ProblemKind(
    "key_unreadable", 503, "A device's sealed secret doesn't open", "the backend needs its right master key"
)
TELEMETRY_DOWN = ProblemKind("telemetry_unavailable", 503, "The telemetry store doesn't answer")
EXPORTS_RUNNING = ProblemKind(
    "exports_running", 503, "Too many exports are running", "ask again a little later"
)
OVERLOADED = ProblemKind("overloaded", 503, "Too many batches are waiting", "send it again a little later")


class Problem(Exception):
    """Raised by routes and guards.

    `facts` are further members of the answer; their names are part of the API.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str = "",
        *,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(f"{kind.code}: {detail}" if detail else kind.code)
        self.kind = kind
        self.detail = detail
        self.remedy = remedy or kind.remedy
        self.headers = dict(headers or {})
        self.facts = facts

    def body(self) -> dict[str, Any]:
        """The answer's members (RFC 9457 section 3.1, then our own)."""
        body: dict[str, Any] = {
            "type": _TYPE_PREFIX + self.kind.code,
            "title": self.kind.title,
            "status": self.kind.status,
            "code": self.kind.code,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.remedy:
            body["remedy"] = self.remedy
        return body | self.facts


def retry_later(kind: ProblemKind, detail: str, retry_after_s: int) -> Problem:
    """A problem that passes by itself: says in `Retry-After` when to come back."""
    return Problem(kind, detail, headers={"Retry-After": str(retry_after_s)}, retry_after_s=retry_after_s)


_SCHEMA_NAME = "Problem"

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": _SCHEMA_NAME,
    "type": "object",
    "description": "Problem details (RFC 9457). A kind of problem may add members of its own.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "description": "urn:surge:problem:<code>"},
        "title": {"type": "string", "description": "the same for every problem of this kind"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "stable; what a program compares"},
        "detail": {"type": "string", "description": "what happened this time"},
        "remedy": {"type": "string", "description": "what to do about it"},
    },
}


def describe(kinds: tuple[ProblemKind, ...]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses for the kinds of problem that a route may answer."""
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in group),
            "content": {CONTENT_TYPE: {"schema": {"$ref": f"#/components/schemas/{_SCHEMA_NAME}"}}},
        }
        for status, group in sorted(by_status.items())
    }
