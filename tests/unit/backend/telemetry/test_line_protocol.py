"""Line protocol: read back by a parser that knows only InfluxDB's rules, from any point that can be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surge_backend.telemetry.line_protocol import (
    decode_text,
    decode_unit,
    encode_point,
    encode_points,
    encode_text,
)
from surge_backend.telemetry.points import FLAGS_MAX, INT_MAX, INT_MIN, TIME_MAX_NS, TIME_MIN_NS, Point

devices = st.from_regex(r"d[a-z2-7]{16}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9\-:./_]{0,63}", fullmatch=True)
units = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=32) | st.sampled_from(
    ["\\", "a\\", " ", ",="]
)
nasty = st.text(st.sampled_from('\\" ,=\n\r\t\0\x7f\x85\u2028\u2029u0aé🌡'), max_size=40)
values = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(INT_MIN, INT_MAX)
    | st.booleans()
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=256)
    | nasty
)
points = st.builds(
    Point, devices, names, units, st.integers(TIME_MIN_NS, TIME_MAX_NS - 1), values, st.integers(0, FLAGS_MAX)
)


def parse_line(line: str) -> tuple[str, dict[str, str], dict[str, object], int]:
    """Measurement, tags, fields and time by InfluxDB's rules: a backslash in a tag keeps the comma, space or
    equals sign after it; within quotes it keeps a quote or a backslash."""
    head, rest = _until(line, " ")
    measurement, *tags = _split(head, ",")
    fields: dict[str, object] = {}
    while True:
        key, rest = _until(rest, "=")
        if rest.startswith('"'):
            match = re.match(r'"((?:[^"\\]|\\.)*)"', rest, re.DOTALL)
            assert match, f"the quotes don't end: {rest!r}"
            fields[key] = re.sub(r'\\(["\\])', r"\1", match[1])
            rest = rest[match.end() :]
        else:
            match = re.match(r"[^ ,]+", rest)
            assert match
            text = match[0]
            fields[key] = (
                text == "true"
                if text in ("true", "false")
                else int(text[:-1])
                if text[-1] == "i"
                else float(text)
            )
            rest = rest[match.end() :]
        if rest.startswith(","):
            rest = rest[1:]
            continue
        assert rest.startswith(" ")
        return measurement, dict(_pair(tag) for tag in tags), fields, int(rest[1:])


def _until(text: str, stop: str) -> tuple[str, str]:
    position = 0
    while text[position] != stop:
        position += 2 if text[position] == "\\" else 1
    return text[:position], text[position + 1 :]


def _split(text: str, separator: str) -> list[str]:
    return re.split(rf"(?<!\\){separator}", text)


def _pair(tag: str) -> tuple[str, str]:
    key, value = re.split(r"(?<!\\)=", tag)
    assert value, "InfluxDB refuses an empty tag"
    assert not value.endswith("\\"), "InfluxDB takes it for an escape of what follows"
    return key, re.sub(r"\\([, =])", r"\1", value)


@pytest.mark.threat(20)
@given(points)
def test_row_20_any_point_reads_back_as_itself(point: Point) -> None:
    measurement, tags, fields, time_ns = parse_line(encode_point(point))
    assert measurement == "telemetry"
    assert (tags["device"], tags["name"]) == (point.device_id, point.name)
    assert decode_unit(tags.get("unit")) == point.unit
    assert (fields.pop("flags"), time_ns) == (point.flags, point.time_ns)
    ((field, stored),) = fields.items()
    if isinstance(point.value, bool):
        assert (field, stored) == ("value_bool", point.value)
    elif isinstance(point.value, str):
        assert field == "value_text"
        assert decode_text(str(stored)) == point.value
    else:
        assert (field, stored) == ("value", float(point.value))


@pytest.mark.threat(20)
@given(st.lists(points, min_size=1, max_size=5))
def test_row_20_a_server_that_ends_lines_within_quotes_sees_one_line_for_each_point(
    some: list[Point],
) -> None:
    body = encode_points(some)
    assert body.count(b"\n") == len(some) - 1
    text = body.decode()
    assert len(text.splitlines()) == len(some)  # by every rule for line ends that Unicode knows
    assert all(
        line.startswith(f"telemetry,device={p.device_id},")
        for line, p in zip(text.split("\n"), some, strict=True)
    )
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


@given(st.text())
def test_text_escapes_undo(text: str) -> None:
    assert decode_text(encode_text(text)) == text


def test_escapes_that_are_not_ours_stay() -> None:
    assert decode_text("C:\\temp \\n \\u12 \\U000a \\") == "C:\\temp \\n \\u12 \\U000a \\"


def test_lines_are_as_documented() -> None:
    device, time_ns = "dabcdefghijklmno2", 1_700_000_000_000_000_001
    assert encode_point(Point(device, "cpu/load", "%", time_ns, 12, 1)) == (
        f"telemetry,device={device},name=cpu/load,unit=% value=12.0,flags=1i {time_ns}"
    )
    assert encode_point(Point(device, "on", "", time_ns, False)) == (
        f"telemetry,device={device},name=on value_bool=false,flags=0i {time_ns}"
    )
    assert encode_point(Point(device, "t", "a b,=", time_ns, 'say "\\"\n')) == (
        rf'telemetry,device={device},name=t,unit=a\ b\,\= value_text="say \"\\\\\"\\u000a",flags=0i {time_ns}'
    )
