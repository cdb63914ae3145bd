"""The hexadecimal examples of the specification's pages are what the vectors and the code say."""

import json
import re
from pathlib import Path

from surge_wire.ack import decode_ack

PROTOCOL = Path(__file__).resolve().parents[3] / "protocol"
EXAMPLE = "telemetry with a clock"
COMMENT = re.compile(r"\s{3,}\S.*$")


def blocks(page: str) -> list[str]:
    """The indented blocks of a page, each as the hexadecimal digits in it, or "" where it has other text."""
    text = (PROTOCOL / "spec" / page).read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE):
        digits = "".join(COMMENT.sub("", line[4:].strip()) for line in block.splitlines())
        packed = digits.replace(" ", "")
        found.append(packed if re.fullmatch(r"[0-9a-f]+", packed) else "")
    return found


def vector() -> dict[str, str]:
    cases = json.loads((PROTOCOL / "vectors" / "report.json").read_text(encoding="utf-8"))["cases"]
    (case,) = [case for case in cases if case["name"] == EXAMPLE]
    return case


def test_the_overview_takes_the_vector_apart_byte_for_byte() -> None:
    assert EXAMPLE in (PROTOCOL / "spec" / "README.md").read_text(encoding="utf-8")
    assert blocks("README.md")[0] == vector()["envelope"]


def test_the_lengths_in_the_overviews_comments_are_right() -> None:
    text = (PROTOCOL / "spec" / "README.md").read_text(encoding="utf-8")
    said = {name: int(length) for name, length in re.findall(r"  (payload|MAC), (\d+) bytes$", text, re.M)}
    assert said == {"payload": len(vector()["payload"]) // 2, "MAC": 32}
    head = re.search(r"`84 64 \"MAC0\" 56 <protected> 40 (58 [0-9a-f]{2}) <payload>`", text)
    assert head is not None
    assert bytes.fromhex(head[1]) == bytes([0x58, said["payload"]])


def test_the_page_about_reports_shows_the_same_payload() -> None:
    assert blocks("report.md")[0] == vector()["payload"]


def test_the_acks_shown_are_acks() -> None:
    first = decode_ack(bytes.fromhex(blocks("README.md")[1]))
    assert (first.boot, first.ranges) == (7, [(0, 0)])
    second = decode_ack(bytes.fromhex(blocks("ack.md")[0]))
    assert (second.boot, second.ranges) == (7, [(0, 5), (9, 9)])
