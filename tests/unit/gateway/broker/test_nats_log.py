"""The server's log lines, as nats-server 2.15.1 writes them."""

import pytest

from surge_gateway.broker.nats_log import LINE_CHARACTERS_MAX, LineLimit, LogLine, parse_line

TIME = b"[9094] 2026/11/22 08:03:50.194578 "


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (TIME + b"[INF] Server is ready\n", LogLine("debug", "Server is ready")),
        (TIME + b"[INF] \n", LogLine("debug", "")),
        (TIME + b"[WRN] Low on disk", LogLine("warning", "Low on disk")),
        (TIME + b"[ERR] JetStream failed", LogLine("error", "JetStream failed")),
        (TIME + b"[FTL] Unable to listen", LogLine("critical", "Unable to listen")),
        (TIME + b"[XXX] new", LogLine("error", "new")),
        (
            TIME + b'[ERR] 127.0.0.1:1 - mid:67 - "X" - Publish Violation - Subject "a"',
            LogLine("warning", '127.0.0.1:1 - mid:67 - "X" - Publish Violation - Subject "a"'),
        ),
        (b"panic: runtime error\n", LogLine("error", "panic: runtime error")),
        (b"nats-server: x.conf:1:2: bad\n", LogLine("error", "nats-server: x.conf:1:2: bad")),
        (b"\xff\xfe\n", LogLine("error", "��")),
    ],
)
def test_a_line_is_read(raw: bytes, expected: LogLine) -> None:
    assert parse_line(raw) == expected


def test_a_long_line_is_cut() -> None:
    assert len(parse_line(b"x" * 10_000).text) == LINE_CHARACTERS_MAX


def test_a_flood_is_dropped_and_counted_once() -> None:
    limit = LineLimit(2)
    assert [limit.admit(10.0 + tenth / 10) for tenth in range(5)] == [
        (True, 0),
        (True, 0),
        (False, 0),
        (False, 0),
        (False, 0),
    ]
    assert limit.admit(11.0) == (True, 3)
    assert limit.admit(11.5) == (True, 0)
    assert limit.admit(11.9) == (False, 0)
    assert limit.admit(99.0) == (True, 1)
