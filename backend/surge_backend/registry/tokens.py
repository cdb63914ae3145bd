"""Bearer and enrolment tokens: opaque, random, stored as SHA-256 only.

Place in the flow: the API's guard parses and hashes what a client sends, and looks the hash up; `issue_token`
is called by the owners, gateways and tokens resources and by `surge backend init`. Does not know HTTP.

Rules kept: a token is `surge_<role>_<43 base64url characters>`, 256 random bits; only its hash is stored, so
a database dump opens nothing; looking up is by the hash, so the time taken tells nothing about a token;
expired, revoked and unknown look the same from outside; a row is never deleted, so what a leaked token could
do stays on record.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

TOKEN_RANDOM_LEN = 32
TOKEN_LEN_MAX = 64  # longer text is no token of ours and is not even hashed
TOKEN_LIFE_S_MAX = 10 * 366 * 86_400
LABEL_LEN_MAX = 64


class Role(StrEnum):
    """What a bearer token stands for. Its `subject_id` is the owner or gateway; others have none."""

    ADMIN = "admin"
    OWNER = "owner"
    GATEWAY = "gateway"
    AUDITOR = "auditor"


ENROLMENT_PREFIX = "enrol"
_BEARER = re.compile(r"surge_(admin|owner|gateway|auditor)_[A-Za-z0-9_-]{43}")
_ENROLMENT = re.compile(rf"surge_{ENROLMENT_PREFIX}_[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True)
class Principal:
    """Who asks: the role and subject of a valid token."""

    role: Role
    subject_id: str
    token_id: str


def make_bearer_token(role: Role) -> str:
    """A fresh token's text: shown once, to who asked for it."""
    return f"surge_{role.value}_{secrets.token_urlsafe(TOKEN_RANDOM_LEN)}"


def make_enrolment_token() -> str:
    """A fresh enrolment token's text."""
    return f"surge_{ENROLMENT_PREFIX}_{secrets.token_urlsafe(TOKEN_RANDOM_LEN)}"


def hash_token(token: str) -> bytes:
    """What is stored of a token. Plain SHA-256 suffices: there is no guessing at 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


def is_bearer_token(text: str) -> bool:
    """Whether `text` has a bearer token's shape."""
    return len(text) <= TOKEN_LEN_MAX and _BEARER.fullmatch(text) is not None


def is_enrolment_token(text: str) -> bool:
    """Whether `text` has an enrolment token's shape."""
    return len(text) <= TOKEN_LEN_MAX and _ENROLMENT.fullmatch(text) is not None
