"""Any bytes into any decoder: a message or a DecodeError, nothing else; and both CBOR decoders agree
(threat 19)."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surge_wire import (
    ack,
    batch,
    cbor,
    cbor_pure,
    command,
    cose,
    ed25519,
    hkdf,
    receipt,
    report,
    senml,
    settlement,
    submission,
    topics,
)
from surge_wire.errors import DecodeError, EncodeError

VECTORS = Path(__file__).resolve().parents[3] / "protocol" / "vectors"
SECRET = bytes(range(32))
REPORT_KEY = hkdf.derive_key(SECRET, hkdf.INFO_REPORT)
LOG_VERIFY = ed25519.verifier(ed25519.public_key(bytes(range(64, 96))))
DEVICE_ID = "daaaqeayeaudaocaj"


def whole_report(data: bytes) -> None:
    _device, opened = report.open_report(data)
    cose.mac_valid(opened, REPORT_KEY)
    report.decode_report(opened.payload).records()


def whole_batch(data: bytes) -> None:
    _gateway, opened = batch.open_batch(data)
    batch.decode_batch(opened.payload)


def topic(data: bytes) -> None:
    topics.parse_topic(data.decode("utf-8", "replace"))


DECODERS: dict[str, Callable[[bytes], Any]] = {
    "cbor": cbor.decode,
    "cbor_pure": cbor_pure.decode,
    "mac0": lambda data: cose.parse(cose.TAG_MAC0, data),
    "sign1": lambda data: cose.parse(cose.TAG_SIGN1, data),
    "report": whole_report,
    "report payload": lambda data: report.decode_report(data).records(),
    "ack": ack.decode_ack,
    "command": lambda data: command.open_command(data, DEVICE_ID, hkdf.derive_key(SECRET, hkdf.INFO_COMMAND)),
    "batch": whole_batch,
    "batch payload": batch.decode_batch,
    "settlement": settlement.decode_settlement,
    "submission": lambda data: submission.verify_submission(data, bytes(32), "g" * 17, 0, 1, LOG_VERIFY),
    "inclusion receipt": lambda data: receipt.verify_inclusion_receipt(data, b"entry", LOG_VERIFY),
    "consistency receipt": lambda data: receipt.verify_consistency_receipt(
        data, bytes(32), bytes(32), LOG_VERIFY
    ),
    "tree head": lambda data: receipt.open_tree_head(data, LOG_VERIFY),
    "topic": topic,
}


def corpus() -> list[bytes]:
    """Every message of the vectors, valid or not: the fuzzer's starting points."""
    found: list[bytes] = []
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            for key in (
                "cbor",
                "envelope",
                "payload",
                "ack",
                "pack",
                "settlement",
                "receipt",
                "head",
                "answer",
            ):
                if isinstance(case.get(key), str):
                    found.append(bytes.fromhex(case[key]))
    return found


CORPUS = corpus()
BOMBS = [
    pytest.param(b"\x81" * 100_000, id="100,000 arrays deep"),
    pytest.param(b"\xa1\x00" * 50_000, id="50,000 maps deep"),
    pytest.param(b"\xc1" * 100_000, id="100,000 tags deep"),
    pytest.param(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", id="array of 2**64-1"),
    pytest.param(b"\x9a\x7f\xff\xff\xff" + b"\x00" * 1000, id="array of 2**31-1"),
    pytest.param(b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", id="map of 2**63-1"),
    pytest.param(b"\x5b\x80\x00\x00\x00\x00\x00\x00\x00", id="byte string of 2**63"),
    pytest.param(b"\x7b\xff\xff\xff\xff\xff\xff\xff\xffx", id="text of 2**64-1"),
    pytest.param(b"\x5f" + b"\x41\x00" * 50_000 + b"\xff", id="indefinite byte string"),
    pytest.param(b"\xa2\x01\x00\x01\x00", id="duplicate keys"),
    pytest.param(b"\x81" + b"\xd8\x1c\x81\xd8\x1d\x00", id="shared reference to itself"),
    pytest.param(b"\x98\xff" + b"\x00" * 10, id="array of 255 with 10 items"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message of the corpus with a few bytes changed, inserted, cut or doubled."""
    data = bytearray(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        action = draw(st.sampled_from(["change", "insert", "cut", "double"]))
        if action == "change" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif action == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=9))
        elif action == "cut":
            del data[at:]
        else:
            data[at:at] = data[at : at + 16]
    return bytes(data)


def decode_only(name: str, data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        DECODERS[name](data)


@pytest.mark.parametrize("name", sorted(DECODERS))
@given(data=st.one_of(st.binary(max_size=200), mutated()))
def test_decoders_raise_decode_error_and_nothing_else(name: str, data: bytes) -> None:
    decode_only(name, data)


@pytest.mark.threat(19)
@pytest.mark.parametrize("name", sorted(set(DECODERS) - {"topic"}))
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused(name: str, bomb: bytes) -> None:
    with pytest.raises(DecodeError):
        DECODERS[name](bomb)


@pytest.mark.threat(19)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_inside_a_sealed_report_are_refused(bomb: bytes) -> None:
    payload = bomb[:3900]
    with pytest.raises(DecodeError):
        whole_report(cose.seal_mac0(DEVICE_ID, REPORT_KEY, payload, 4096))


def outcome(decode: Callable[[bytes], Any], data: bytes) -> tuple[bool, str]:
    try:
        return True, repr(decode(data))
    except DecodeError:
        return False, ""


@given(data=st.one_of(st.binary(max_size=64), mutated()))
@settings(max_examples=settings().max_examples * 5)
def test_both_cbor_decoders_agree(data: bytes) -> None:
    assert outcome(cbor.decode, data) == outcome(cbor_pure.decode, data)


SCALARS = (
    st.integers(-(2**64), 2**64 - 1)
    | st.booleans()
    | st.none()
    | st.binary(max_size=300)
    | st.text(max_size=300)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(-(2**63), 2**64 - 1), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(value=VALUES)
def test_values_come_back_and_encode_the_same_way_again(value: Any) -> None:
    try:
        data = cbor.encode(value)
    except EncodeError as error:
        if error.reason != "nested too deep":
            raise
        return
    for decode in (cbor.decode, cbor_pure.decode):
        assert repr(decode(data)) == repr(decode(cbor.encode(decode(data))))
        assert cbor.encode(decode(data)) == data


def test_encoder_refuses_what_the_subset_leaves_out() -> None:
    for value in (
        float("nan"),
        float("inf"),
        2**64,
        -(2**64) - 1,
        {"text": 1},
        {1.0: 1},
        {True: 1},
        object(),
        {1},
    ):
        with pytest.raises(EncodeError):
            cbor.encode(value)


@given(name=st.text(max_size=70), unit=st.text(max_size=20), value=SCALARS)
def test_records_that_can_be_made_can_be_read(name: str, unit: str, value: Any) -> None:
    try:
        record = senml.make_record(name, unit, value)
    except EncodeError:
        return
    found = senml.resolve_pack(cbor.decode(cbor.encode([record])))
    assert [(found[0].name, found[0].unit, found[0].value)] == [(name, unit, value)]
