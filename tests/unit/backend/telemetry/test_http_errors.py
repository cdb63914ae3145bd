"""What an answer means: the remedy that a person reads, and no secret in it."""

import pytest

from surge_backend.telemetry.http_errors import Redactor, RequestRefused, failure_of, retry_after_s
from surge_backend.telemetry.store import StoreUnavailable

NO_SECRETS = Redactor.of([])


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_for_the_points_sent(status: int) -> None:
    error = failure_of(
        status, '{"error":"partial write: beyond retention dropped=3"}', None, "store", NO_SECRETS
    )
    assert isinstance(error, RequestRefused)
    assert error.dropped == 3
    assert "partial write" in error.reason


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "token"),
        (403, "right to read and write"),
        (404, "database or bucket exists"),
        (429, "by itself"),
        (500, "by itself"),
        (503, "by itself"),
        (302, "URL"),
    ],
)
def test_the_rest_is_tried_again_and_says_what_to_do(status: int, remedy: str) -> None:
    error = failure_of(status, '{"code":"x","message":"why"}', "7", "store http://host/write", NO_SECRETS)
    assert isinstance(error, StoreUnavailable)
    assert remedy in error.remedy
    assert error.retry_after_s == 7.0
    assert str(error).startswith(f"store http://host/write answered {status}: why; ")


@pytest.mark.threat(25)
def test_an_echoed_secret_is_not_repeated() -> None:
    redactor = Redactor.of(["", "secret", "secret-and-more"])
    error = failure_of(401, "bad token secret-and-more, not secret\n\x1b[31m", None, "store", redactor)
    assert "answered 401: bad token [secret], not [secret] [31m;" in str(error)


def test_a_long_answer_is_cut() -> None:
    assert len(str(failure_of(500, "x" * 100_000, None, "store", NO_SECRETS))) < 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("9" * 400, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds
