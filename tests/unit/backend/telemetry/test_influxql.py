"""InfluxQL: nothing that a caller gives is in the statement, and no answer breaks the parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.telemetry.influxql import (
    DatabaseMissing,
    latest_statement,
    moment_statement,
    parse_rows,
    samples_of,
    samples_statement,
)
from surge_backend.telemetry.store import (
    Sample,
    StoreError,
    StoreQueryFailed,
    StoreUnavailable,
    TelemetryQuery,
)

DEVICE = "dabcdefghijklmno2"
T0_MS = 1_700_000_000_000


@pytest.mark.threat(20)
def test_row_20_what_a_caller_gives_is_bound() -> None:
    query = TelemetryQuery(DEVICE, T0_MS, T0_MS + 1, name="cpu/load")
    for statement in (samples_statement(query), moment_statement(query, 1), latest_statement(DEVICE)):
        assert DEVICE not in statement.text
        assert "cpu/load" not in statement.text
        assert statement.params["device"] == DEVICE
    form = samples_statement(query).form("db", "rp")
    assert json.loads(form["params"]) == {
        "device": DEVICE,
        "name": "cpu/load",
        "from_ns": T0_MS * 1_000_000,
        "to_ns": (T0_MS + 1) * 1_000_000,
    }
    assert (form["db"], form["rp"], form["epoch"]) == ("db", "rp", "ns")


def answer(*rows: list[object], **extra: object) -> bytes:
    columns = ["time", "value", "value_bool", "value_text", "flags", "name", "unit"]
    return json.dumps({"results": [{"series": [{"columns": columns, "values": rows}], **extra}]}).encode()


def test_rows_become_samples_in_order() -> None:
    body = answer(
        [2, 1, None, None, 0, "b", None],
        [2, 1.5, None, None, 3, "a", "s"],
        [1, None, False, None, None, "c", ""],
        [1, None, None, "x\\u000a\\\\", 0, "d", "\u2216"],
        [0, None, None, None, 0, "nothing", None],
    )
    assert samples_of(parse_rows(body), DEVICE, 10) == [
        Sample(DEVICE, "c", "", 1, False, 0),
        Sample(DEVICE, "d", "\\", 1, "x\n\\", 0),
        Sample(DEVICE, "a", "s", 2, 1.5, 3),
        Sample(DEVICE, "b", "", 2, 1.0, 0),
    ]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("database not found: x", DatabaseMissing),
        ("retention policy not found: x", DatabaseMissing),
        ("error parsing query: found x", StoreQueryFailed),
        ("max-select-buckets limit exceeded", StoreQueryFailed),
        ("engine is closed", StoreUnavailable),
    ],
)
def test_an_error_within_an_answer_is_told(reason: str, kind: type[StoreError]) -> None:
    with pytest.raises(kind, match=reason.split(":")[0]):
        parse_rows(json.dumps({"results": [{"error": reason}]}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"results":1}',
        b'{"results":[{"series":[{}]}]}',
        b"null",
        b'{"results":[null]}',
    ],
)
def test_another_servers_answer_is_told(body: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="not InfluxQL"):
        parse_rows(body)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["results", "series", "columns", "values", "tags", "error"]), inner)))  # fmt: skip
def test_any_json_is_rows_or_a_store_error(value: object) -> None:
    try:
        parse_rows(json.dumps(value).encode())
    except StoreError:
        pass
