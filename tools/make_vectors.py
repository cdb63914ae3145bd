"""Writes ``protocol/vectors/*.json`` from fixed inputs; ``tests/vectors`` fails where the files and this
disagree.

Each case has one name and, where it is invalid, one mutation. Published examples stand here as literals with
their source; everything else follows from the constants at the top. Once a format is released its vectors are
frozen: a change then means a new wire version, never an edited file.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "protocol"))

from surge_wire import (  # noqa: E402
    ack,
    batch,
    cbor,
    command,
    cose,
    ed25519,
    hkdf,
    ids,
    merkle,
    receipt,
    report,
    senml,
    settlement,
    submission,
    verdicts,
)

SECRET = bytes(range(32))
GATEWAY_SEED = bytes(range(32, 64))
LOG_SEED = bytes(range(64, 96))
DEVICE_ID = ids.make_id(ids.DEVICE, bytes(range(10)))
GATEWAY_ID = ids.make_id(ids.GATEWAY, bytes(range(10, 20)))
OWNER_ID = ids.make_id(ids.OWNER, bytes(range(20, 30)))
TIME_MS = 1_790_000_000_123

Case = dict[str, Any]


def tagged(value: Any) -> Any:
    """A CBOR value as JSON. Bytes, maps, floats and text beyond ASCII are written out: JSON readers differ
    there."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, float):
        return {"float64": struct.pack(">d", value).hex()}
    if isinstance(value, str) and not value.isascii():
        return {"utf8": value.encode().hex()}
    if isinstance(value, dict):
        return {"map": [[key, tagged(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [tagged(item) for item in value]
    return value


# RFC 8949 appendix A, the rows that are inside the subset: (encoding, value).
RFC_8949_VALID: list[tuple[str, Any]] = [
    ("00", 0),
    ("01", 1),
    ("0a", 10),
    ("17", 23),
    ("1818", 24),
    ("1819", 25),
    ("1864", 100),
    ("1903e8", 1000),
    ("1a000f4240", 1000000),
    ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615),
    ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1),
    ("29", -10),
    ("3863", -100),
    ("3903e7", -1000),
    ("f90000", 0.0),
    ("f93c00", 1.0),
    ("fb3ff199999999999a", 1.1),
    ("f93e00", 1.5),
    ("f97bff", 65504.0),
    ("fa47c35000", 100000.0),
    ("fa7f7fffff", 3.4028234663852886e38),
    ("fb7e37e43c8800759c", 1.0e300),
    ("f90001", 5.960464477539063e-8),
    ("f90400", 0.00006103515625),
    ("f9c400", -4.0),
    ("fbc010666666666666", -4.1),
    ("f4", False),
    ("f5", True),
    ("f6", None),
    ("40", b""),
    ("4401020304", b"\x01\x02\x03\x04"),
    ("60", ""),
    ("6161", "a"),
    ("6449455446", "IETF"),
    ("62225c", '"\\'),
    ("62c3bc", "\u00fc"),
    ("63e6b0b4", "\u6c34"),
    ("64f0908591", "\U00010151"),
    ("80", []),
    ("83010203", [1, 2, 3]),
    ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", list(range(1, 26))),
    ("a0", {}),
    ("a201020304", {1: 2, 3: 4}),
]

# RFC 8949 appendix A, the rows that the subset leaves out.
RFC_8949_OUTSIDE: list[tuple[str, str]] = [
    ("c249010000000000000000", "bignum"),
    ("f97c00", "infinity"),
    ("f97e00", "not a number"),
    ("fa7f800000", "infinity in 32 bits"),
    ("fbfff0000000000000", "minus infinity in 64 bits"),
    ("f7", "undefined"),
    ("f0", "simple value 16"),
    ("f8ff", "simple value 255"),
    ("c074323031332d30332d32315432303a30343a30305a", "tag 0"),
    ("c11a514b67b0", "tag 1"),
    ("d74401020304", "tag 23"),
    ("d818456449455446", "tag 24"),
    ("a26161016162820203", "text keys"),
    ("5f42010243030405ff", "indefinite byte string"),
    ("7f657374726561646d696e67ff", "indefinite text string"),
    ("9fff", "indefinite array"),
    ("bf61610161629f0203ffff", "indefinite map"),
]

CBOR_INVALID: list[tuple[str, str]] = [
    ("", "nothing at all"),
    ("18", "head cut off"),
    ("1900", "head cut off in the argument"),
    ("1c", "reserved additional information 28"),
    ("fc", "reserved simple head 28"),
    ("ff", "break without a beginning"),
    ("44010203", "byte string cut off"),
    ("8201", "array cut off"),
    ("a101", "map cut off"),
    ("0000", "bytes after the item"),
    ("5bffffffffffffffff", "byte string of 2**64-1"),
    ("7bffffffffffffffff", "text string of 2**64-1"),
    ("9bffffffffffffffff", "array of 2**64-1"),
    ("bbffffffffffffffff", "map of 2**64-1"),
    ("9b7fffffffffffffff", "array of 2**63-1"),
    ("a201020103", "duplicate key"),
    ("a20102180103", "duplicate key, once in a longer form"),
    ("a14001", "byte string as key"),
    ("a1f501", "true as key"),
    ("62c328", "text not UTF-8: bad continuation"),
    ("62c080", "text not UTF-8: overlong"),
    ("63eda080", "text not UTF-8: surrogate"),
    ("64f4908080", "text not UTF-8: beyond U+10FFFF"),
    ("81" * 9 + "00", "nested nine deep"),
    ("a101" * 5 + "81" * 4 + "00", "maps and arrays nested nine deep"),
]

# Not deterministic, but readers take it: nothing is ever re-encoded (spec/cbor.md).
CBOR_LONGER_FORMS: list[tuple[str, Any]] = [
    ("1801", 1),
    ("1b0000000000000001", 1),
    ("5801ff", b"\xff"),
    ("fa3fc00000", 1.5),
    ("fb3ff8000000000000", 1.5),
    ("a203040102", {1: 2, 3: 4}),
]

OURS_VALID: list[tuple[str, Any]] = [
    ("a3010203042005", {1: 2, 3: 4, -1: 5}),
    ("a21864002001", {100: 0, -1: 1}),
    ("818181818181818100", [[[[[[[[0]]]]]]]]),
    ("f98000", -0.0),
    ("f903ff", 0.00006097555160522461),
    ("fa33000000", 2.9802322387695312e-08),
]


def cbor_cases() -> list[Case]:
    cases: list[Case] = []
    for data, value in RFC_8949_VALID:
        cases.append(
            {
                "name": f"RFC 8949 A: {data}",
                "valid": True,
                "deterministic": True,
                "cbor": data,
                "value": value,
            }
        )
    for data, value in OURS_VALID:
        cases.append(
            {
                "name": f"deterministic: {data}",
                "valid": True,
                "deterministic": True,
                "cbor": data,
                "value": value,
            }
        )
    for data, value in CBOR_LONGER_FORMS:
        cases.append(
            {
                "name": f"longer form: {data}",
                "valid": True,
                "deterministic": False,
                "cbor": data,
                "value": value,
            }
        )
    for data, why in RFC_8949_OUTSIDE:
        cases.append({"name": f"RFC 8949 A, outside the subset: {why}", "valid": False, "cbor": data})
    for data, why in CBOR_INVALID:
        cases.append({"name": why, "valid": False, "cbor": data})
    for case in cases:
        if case["valid"]:
            case["value"] = tagged(case["value"])
    return cases


def hkdf_cases() -> list[Case]:
    def hmac_case(name: str, key: bytes, message: bytes, mac: str) -> Case:
        return {"name": name, "function": "hmac", "key": key.hex(), "message": message.hex(), "output": mac}

    def hkdf_case(name: str, ikm: bytes, salt: bytes, info: bytes, okm: str) -> Case:
        return {
            "name": name,
            "function": "hkdf",
            "secret": ikm.hex(),
            "salt": salt.hex(),
            "info": info.hex(),
            "output": okm,
        }

    cases = [
        hmac_case(
            "RFC 4231 4.2",
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        hmac_case(
            "RFC 4231 4.3",
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        hmac_case(
            "RFC 4231 4.4",
            b"\xaa" * 20,
            b"\xdd" * 50,
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        hmac_case(
            "RFC 4231 4.7",
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        hkdf_case(
            "RFC 5869 A.1",
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        hkdf_case(
            "RFC 5869 A.2",
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        hkdf_case(
            "RFC 5869 A.3",
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ]
    for info in (hkdf.INFO_REPORT, hkdf.INFO_COMMAND, hkdf.INFO_MQTT):
        cases.append(
            hkdf_case(f"key for {info.decode()}", SECRET, b"", info, hkdf.derive_key(SECRET, info).hex())
        )
    cases.append(
        {
            "name": "MQTT password",
            "function": "mqtt_password",
            "secret": SECRET.hex(),
            "output": hkdf.mqtt_password(SECRET),
        }
    )
    return cases


def cose_cases() -> list[Case]:
    return [
        {
            "name": "COSE working group's examples: mac0-tests/HMac-01",
            "tag": cose.TAG_MAC0,
            "envelope": "d18443a10105a054546869732069732074686520636f6e74656e742e5820"
            "a1a848d3471f9d61ee49018d244c824772f223ad4f935293f1789fc3a08d8c58",
            "key": "849b57219dae48de646d07dbb533566e976686457c1491be3a76dcea6c427188",
            "signed": "84644d41433043a101054054546869732069732074686520636f6e74656e742e",
            "payload": b"This is the content.".hex(),
        },
        {
            "name": "COSE working group's examples: eddsa-examples/eddsa-sig-01 (key of RFC 8032 7.1 test 1)",
            "tag": cose.TAG_SIGN1,
            "envelope": "d28445a201270300a10442313154546869732069732074686520636f6e74656e742e5840"
            "7142fd2ff96d56db85bee905a76ba1d0b7321a95c8c4d3607c5781932b7afb87"
            "11497dfa751bf40b58b3bcc32300b1487f3db34085eef013bf08f4a44d6fef0d",
            "key": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "signed": "846a5369676e61747572653145a2012703004054546869732069732074686520636f6e74656e742e",
            "payload": b"This is the content.".hex(),
        },
    ]


def ed25519_cases() -> list[Case]:
    return [
        {
            "name": "RFC 8032 7.1 test 1",
            "seed": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "public_key": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "message": "",
            "signature": "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
            "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        },
        {
            "name": "RFC 8032 7.1 test 2",
            "seed": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "public_key": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "message": "72",
            "signature": "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        },
    ]


def senml_cases() -> list[Case]:
    rfc_8428 = (
        "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb41d303a15b00106223614120050067766f6c74616765"
        "01615602fb405e066666666666a3006763757272656e74062402fb3ff3333333333333a3006763757272656e74062302fb3ff4ccccccccccc"
        "da3006763757272656e74062202fb3ff6666666666666a3006763757272656e74062102f93e00a3006763757272656e74062002fb3ff99999"
        "9999999aa3006763757272656e74060002fb3ffb333333333333"
    )
    name = "urn:dev:ow:10e2073a0108006:"
    base = 1276020076.001
    currents = [(-5, 1.2), (-4, 1.3), (-3, 1.4), (-2, 1.5), (-1, 1.6), (0, 1.7)]
    cases: list[Case] = [
        {
            "name": "RFC 8428 section 6",
            "valid": True,
            "pack": rfc_8428,
            "records": tagged(
                [[name + "voltage", "V", 120.1, None, base, None]]
                + [[name + "current", "A", value, None, base + offset, None] for offset, value in currents]
            ),
        }
    ]

    def valid(what: str, pack: list[Any], records: list[list[Any]]) -> None:
        cases.append(
            {"name": what, "valid": True, "pack": cbor.encode(pack).hex(), "records": tagged(records)}
        )

    def invalid(what: str, pack: Any) -> None:
        cases.append({"name": what, "valid": False, "pack": cbor.encode(pack).hex()})

    # RFC 8428 section 5.1.1, .2 and .4 are JSON; these are the same packs with the labels of section 6.
    valid(
        "RFC 8428 section 5.1.1",
        [{0: "urn:dev:ow:10e2073a01080063", 1: "Cel", 2: 23.1}],
        [["urn:dev:ow:10e2073a01080063", "Cel", 23.1, None, 0, None]],
    )
    valid(
        "text and bool",
        [{0: "label", 3: "Machine Room"}, {0: "open", 4: False}],
        [["label", "", "Machine Room", None, 0, None], ["open", "", False, None, 0, None]],
    )
    valid("sum without a value", [{0: "energy", 1: "J", 5: 12}], [["energy", "J", None, 12, 0, None]])
    valid(
        "base value and base sum",
        [{-5: 20, -6: 100, 0: "a", 2: 1, 5: 2}, {0: "b", 2: 2, 5: 3}],
        [["a", "", 21, 102, 0, None], ["b", "", 22, 103, 0, None]],
    )
    valid(
        "base unit overridden",
        [{-4: "A", 0: "a", 2: 1}, {0: "b", 1: "V", 2: 2}],
        [["a", "A", 1, None, 0, None], ["b", "V", 2, None, 0, None]],
    )
    valid("relative time and update time", [{0: "a", 2: 1, 6: -2, 7: 60}], [["a", "", 1, None, -2, 60]])
    valid("version 10", [{-1: 10, 0: "a", 2: 1}], [["a", "", 1, None, 0, None]])
    invalid("empty pack", [])
    invalid("pack not an array", {0: "a", 2: 1})
    invalid("record not a map", [1])
    invalid("65 records", [{0: "a", 2: 1}] * 65)
    invalid("no name", [{2: 1}])
    invalid("name begins with a dot", [{0: ".a", 2: 1}])
    invalid("name with a space", [{0: "a b", 2: 1}])
    invalid("name with a newline", [{0: "a\n", 2: 1}])
    invalid("name not text", [{0: 1, 2: 1}])
    invalid("name of 65 characters", [{0: "a" * 65, 2: 1}])
    invalid("unit not text", [{0: "a", 1: 1, 2: 1}])
    invalid("unit of 17 characters", [{0: "a", 1: "m" * 17, 2: 1}])
    invalid("value is text", [{0: "a", 2: "1"}])
    invalid("value is true", [{0: "a", 2: True}])
    invalid("bool is 1", [{0: "a", 4: 1}])
    invalid("two values", [{0: "a", 2: 1, 3: "x"}])
    invalid("no value", [{0: "a"}])
    invalid("data value", [{0: "a", 8: "AQ"}])
    invalid("unknown label", [{0: "a", 2: 1, 9: 1}])
    invalid("version 11", [{-1: 11, 0: "a", 2: 1}])
    invalid("time is text", [{0: "a", 2: 1, 6: "0"}])
    invalid("base time out of range when added", [{-3: 1.7e308, 0: "a", 2: 1, 6: 1.7e308}])
    return cases


PACK = [senml.make_record("cpu", "%", 12.5), senml.make_record("mem_free", "B", 123456)]


def _usage() -> report.Usage:
    return report.Usage(reports=40, samples=280, bytes=6000, dropped=3, fuel=None, energy_uj=125000)


def report_fields(value: report.Report) -> Case:
    usage = value.usage
    return {
        "boot": value.boot,
        "seq": value.seq,
        "uptime_ms": value.uptime_ms,
        "time_ms": value.time_ms,
        "pack": tagged(value.pack),
        "usage": None
        if usage is None
        else [usage.reports, usage.samples, usage.bytes, usage.dropped, usage.fuel, usage.energy_uj],
        "previous_end": value.previous_end,
        "command_counter": value.command_counter,
    }


def report_cases() -> list[Case]:
    key = hkdf.derive_key(SECRET, hkdf.INFO_REPORT)
    cases: list[Case] = []

    def valid(name: str, value: report.Report) -> bytes:
        envelope = report.seal_report(DEVICE_ID, key, value)
        opened = report.open_report(envelope)[1]
        cases.append(
            {
                "name": name,
                "valid": True,
                "device_id": DEVICE_ID,
                "secret": SECRET.hex(),
                "report": report_fields(value),
                "payload": opened.payload.hex(),
                "maced": opened.signed.hex(),
                "envelope": envelope.hex(),
            }
        )
        return envelope

    def invalid(name: str, envelope: bytes, stage: str) -> None:
        cases.append(
            {
                "name": name,
                "valid": False,
                "secret": SECRET.hex(),
                "stage": stage,
                "envelope": envelope.hex(),
            }
        )

    first = valid("telemetry with a clock", report.Report(7, 0, 1234, TIME_MS, PACK, previous_end=99))
    valid("telemetry without a clock", report.Report(7, 1, 5678, None, PACK))
    valid("usage", report.Report(7, 2, 9999, TIME_MS, None, _usage(), command_counter=4))
    valid("largest numbers", report.Report(2**32 - 1, 2**32 - 1, 2**53 - 1, 2**53 - 1, PACK))
    valid("one byte of payload head", report.Report(1, 1, 1, None, [{0: "a", 2: 1}]))
    long_text = [{0: "a", 3: "x" * 250}]
    valid("three bytes of payload head", report.Report(1, 2, 1, None, long_text))

    payload_at = 26
    invalid("empty", b"", "open")
    invalid("cut by one byte", first[:-1], "open")
    invalid("one byte more", first + b"\x00", "open")
    invalid("tag 18 in place of 17", b"\xd2" + first[1:], "open")
    invalid("untagged", first[1:], "open")
    invalid("algorithm HMAC 256/64", first.replace(b"\xa2\x01\x05\x04", b"\xa2\x01\x04\x04", 1), "open")
    invalid("unprotected header not empty", first[:25] + b"\xa1\x03\x00" + first[26:], "open")
    invalid("device id in capitals", first.replace(DEVICE_ID.encode(), DEVICE_ID.upper().encode(), 1), "open")
    invalid("id of a gateway", first.replace(DEVICE_ID.encode(), GATEWAY_ID.encode(), 1), "open")
    invalid("id with a wildcard", first[:9] + b"#" + first[10:], "open")
    head = first[payload_at : payload_at + 2]
    if head[0] != 0x58:
        raise ValueError("the first case's payload no longer has a head of two bytes")
    longer = first[:payload_at] + b"\x59\x00" + head[1:] + first[payload_at + 2 :]
    invalid("payload head longer than needed", longer, "open")
    # 258 bytes of head and payload: no head is both right and the shortest.
    unreachable = first[:payload_at] + b"\x58\xfd" + bytes(256) + first[-34:]
    invalid("payload longer than its head says", unreachable, "open")
    invalid("25 bytes of head and payload", first[:payload_at] + b"\x57" + bytes(24) + first[-34:], "open")
    invalid("tag of 16 bytes", first[:-34] + b"\x50" + first[-16:], "open")
    flipped = bytearray(first)
    flipped[payload_at + 4] ^= 1
    invalid("one bit of the payload flipped", bytes(flipped), "mac")
    invalid("one bit of the MAC flipped", first[:-1] + bytes([first[-1] ^ 1]), "mac")
    other = ids.make_id(ids.DEVICE, bytes(10))
    invalid("id of another device", first.replace(DEVICE_ID.encode(), other.encode(), 1), "mac")

    def sealed(name: str, payload: bytes, stage: str = "decode") -> None:
        invalid(name, cose.seal_mac0(DEVICE_ID, key, payload, 4096), stage)

    good = {1: 7, 2: 0, 3: 1234, 5: PACK}
    sealed("payload not CBOR", b"\xff")
    sealed("payload not a map", cbor.encode([7, 0, 1234]))
    sealed("no boot", cbor.encode({2: 0, 3: 1, 5: PACK}))
    sealed("boot of 33 bits", cbor.encode(good | {1: 2**32}))
    sealed("seq negative", cbor.encode(good | {2: -1}))
    sealed("seq a float", cbor.encode(good | {2: 1.0}))
    sealed("seq true", cbor.encode(good | {2: True}))
    sealed("uptime of 54 bits", cbor.encode(good | {3: 2**53}))
    sealed("time null", cbor.encode(good | {4: None}))
    sealed("neither pack nor usage", cbor.encode({1: 7, 2: 0, 3: 1234}))
    sealed("pack null", cbor.encode(good | {5: None}))
    sealed("unknown label", cbor.encode(good | {99: 0}))
    sealed("usage not a map", cbor.encode(good | {6: [1, 2, 3, 4]}))
    sealed("usage without dropped", cbor.encode(good | {6: {1: 1, 2: 1, 3: 1}}))
    sealed("usage negative", cbor.encode(good | {6: {1: -1, 2: 1, 3: 1, 4: 0}}))
    sealed("previous end in the second report", cbor.encode(good | {2: 1, 7: 99}))
    sealed("duplicate seq", bytes.fromhex("a40107020002010305"))
    sealed("bytes after the map", cbor.encode(good) + b"\x00")
    sealed("pack empty", cbor.encode(good | {5: []}), "records")
    sealed("pack with a bad name", cbor.encode(good | {5: [{0: "a,b", 2: 1}]}), "records")
    return cases


def ack_cases() -> list[Case]:
    def valid(name: str, value: ack.Ack) -> Case:
        return {
            "name": name,
            "valid": True,
            "boot": value.boot,
            "ranges": value.ranges,
            "time_ms": value.time_ms,
            "ack": ack.encode_ack(value).hex(),
        }

    def invalid(name: str, data: Any) -> Case:
        return {
            "name": name,
            "valid": False,
            "ack": (data if isinstance(data, bytes) else cbor.encode(data)).hex(),
        }

    good = {1: 7, 2: [[0, 5]], 3: TIME_MS}
    return [
        valid("one range", ack.Ack(7, [(0, 5)], TIME_MS)),
        valid("ranges with holes", ack.Ack(7, [(0, 5), (7, 7), (9, 4294967295)], TIME_MS)),
        valid("sixteen ranges", ack.Ack(7, [(i * 3, i * 3 + 1) for i in range(16)], TIME_MS)),
        invalid("no range", good | {2: []}),
        invalid("seventeen ranges", good | {2: [[i * 3, i * 3] for i in range(17)]}),
        invalid("range the wrong way round", good | {2: [[5, 0]]}),
        invalid("ranges overlap", good | {2: [[0, 5], [5, 6]]}),
        invalid("ranges touch", good | {2: [[0, 5], [6, 7]]}),
        invalid("ranges fall", good | {2: [[9, 9], [0, 5]]}),
        invalid("range of three", good | {2: [[0, 1, 2]]}),
        invalid("seq of 33 bits", good | {2: [[0, 2**32]]}),
        invalid("seq a float", good | {2: [[0, 5.0]]}),
        invalid("no time", {1: 7, 2: [[0, 5]]}),
        invalid("unknown label", good | {4: 0}),
        invalid("not a map", [7, [[0, 5]], TIME_MS]),
        invalid("257 bytes", b"\xa1\x01\x59\x00\xfc" + bytes(252)),
    ]


def command_cases() -> list[Case]:
    key = hkdf.derive_key(SECRET, hkdf.INFO_COMMAND)
    value = command.Command(3, command.SET_REPORT_INTERVAL, {1: 30}, TIME_MS)
    good = command.seal_command(DEVICE_ID, key, value)
    opened = cose.open_profile(cose.TAG_MAC0, good, 1024)
    common = {"device_id": DEVICE_ID, "secret": SECRET.hex()}
    other = ids.make_id(ids.DEVICE, bytes(10))

    def invalid(name: str, envelope: bytes) -> Case:
        return common | {"name": name, "valid": False, "envelope": envelope.hex()}

    def sealed(payload: bytes, kid: str = DEVICE_ID) -> bytes:
        return cose.seal_mac0(kid, key, payload, 1024)

    return [
        common
        | {
            "name": "set the report interval to 30 s",
            "valid": True,
            "counter": 3,
            "operation": 1,
            "arguments": tagged({1: 30}),
            "expires_ms": TIME_MS,
            "maced": opened.signed.hex(),
            "envelope": good.hex(),
        },
        common
        | {
            "name": "restart",
            "valid": True,
            "counter": 4,
            "operation": 2,
            "arguments": None,
            "expires_ms": None,
            "envelope": command.seal_command(DEVICE_ID, key, command.Command(4, command.RESTART)).hex(),
        },
        invalid("one bit flipped", good[:40] + bytes([good[40] ^ 1]) + good[41:]),
        invalid(
            "under the report key",
            cose.seal_mac0(DEVICE_ID, hkdf.derive_key(SECRET, hkdf.INFO_REPORT), opened.payload, 1024),
        ),
        invalid("for another device", sealed(opened.payload, other)),
        invalid("arguments not a map", sealed(cbor.encode({1: 3, 2: 1, 3: [30]}))),
        invalid("no counter", sealed(cbor.encode({2: 1}))),
        invalid("unknown label", sealed(cbor.encode({1: 3, 2: 1, 9: 0}))),
        invalid("cut", good[:-1]),
    ]


def batch_payload(**changes: Any) -> dict[int, Any]:
    key = hkdf.derive_key(SECRET, hkdf.INFO_REPORT)
    envelope = report.seal_report(DEVICE_ID, key, report.Report(7, 0, 1234, TIME_MS, PACK))
    fields: dict[int, Any] = {1: 0, 2: bytes(32), 3: TIME_MS + 500, 4: [envelope], 5: [TIME_MS + 20]}
    fields.update({int(label[1:]): value for label, value in changes.items()})
    return fields


def batch_cases() -> list[Case]:
    sign = ed25519.signer(GATEWAY_SEED)
    public_key = ed25519.public_key(GATEWAY_SEED)
    window = [DEVICE_ID, "cpu", "%", TIME_MS, TIME_MS + 60000, 6, 1, 2.5, 4]
    summary = [DEVICE_ID, 7, [[0, 5], [9, 9]]]
    cases: list[Case] = []

    def case(
        name: str, payload: bytes, valid: bool, stage: str = "decode", envelope: bytes | None = None
    ) -> bytes:
        sealed = envelope if envelope is not None else batch.seal_batch(GATEWAY_ID, sign, payload)
        entry: Case = {
            "name": name,
            "valid": valid,
            "gateway_id": GATEWAY_ID,
            "public_key": public_key.hex(),
            "envelope": sealed.hex(),
        }
        if valid:
            opened = batch.open_batch(sealed)[1]
            entry |= {"seed": GATEWAY_SEED.hex(), "payload": payload.hex(), "signed": opened.signed.hex()}
            entry["chain_hash"] = batch.chain_hash(payload).hex()
        else:
            entry["stage"] = stage
        cases.append(entry)
        return sealed

    first = cbor.encode(batch_payload())
    good = case("first batch of a gateway, one report", first, True)
    case(
        "second batch, chained to the first",
        cbor.encode(batch_payload(_1=1, _2=batch.chain_hash(first))),
        True,
    )
    case("no reports, one window", cbor.encode(batch_payload(_4=[], _5=[], _6=[window], _7=[summary])), True)
    case("tag 17", b"", False, "open", b"\xd1" + good[1:])
    case(
        "algorithm EdDSA (-8)", b"", False, "open", good.replace(b"\xa2\x01\x32\x04", b"\xa2\x01\x27\x04", 1)
    )
    case("id of a device", b"", False, "open", good.replace(GATEWAY_ID.encode(), DEVICE_ID.encode(), 1))
    case("cut", b"", False, "open", good[:-1])
    flipped = bytearray(good)
    flipped[60] ^= 1
    case("one bit of the payload flipped", b"", False, "signature", bytes(flipped))
    case("one bit of the signature flipped", b"", False, "signature", good[:-1] + bytes([good[-1] ^ 1]))
    case("times that don't match", cbor.encode(batch_payload(_5=[])), False)
    case("previous of 31 bytes", cbor.encode(batch_payload(_2=bytes(31))), False)
    case("report not bytes", cbor.encode(batch_payload(_4=["x"])), False)
    case("report of 4097 bytes", cbor.encode(batch_payload(_4=[bytes(4097)])), False)
    case("time negative", cbor.encode(batch_payload(_5=[-1])), False)
    case("seq missing", cbor.encode({k: v for k, v in batch_payload().items() if k != 1}), False)
    case("unknown label", cbor.encode(batch_payload(_8=0)), False)
    case("window of eight", cbor.encode(batch_payload(_6=[window[:8]])), False)
    case("window with count 0", cbor.encode(batch_payload(_6=[[*window[:5], 0, *window[6:]]])), False)
    case("window with mean above maximum", cbor.encode(batch_payload(_6=[[*window[:7], 9.0, 4]])), False)
    case(
        "window that ends before it begins",
        cbor.encode(batch_payload(_6=[[*window[:4], 0, *window[5:]]])),
        False,
    )
    case(
        "summary with falling ranges",
        cbor.encode(batch_payload(_7=[[DEVICE_ID, 7, [[9, 9], [0, 5]]]])),
        False,
    )
    return cases


# Leaves and roots of the tree that RFC 6962's reference implementation is tested with (sizes 0 to 8).
CT_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def ct_node(level: int, index: int) -> bytes:
    if level == 0:
        return merkle.leaf_hash(bytes.fromhex(CT_LEAVES[index]))
    return merkle.node_hash(ct_node(level - 1, 2 * index), ct_node(level - 1, 2 * index + 1))


def merkle_cases() -> list[Case]:
    cases: list[Case] = []
    for size, root in enumerate(CT_ROOTS):
        cases.append(
            {"name": f"root of {size} leaves", "kind": "root", "leaves": CT_LEAVES[:size], "root": root}
        )
    for size in range(1, 9):
        for index in range(size):
            path = [item.hex() for item in merkle.inclusion_path(ct_node, index, size)]
            cases.append(
                {
                    "name": f"inclusion of {index} in {size}",
                    "kind": "inclusion",
                    "valid": True,
                    "leaf": CT_LEAVES[index],
                    "index": index,
                    "size": size,
                    "path": path,
                    "root": CT_ROOTS[size],
                }
            )
        for older in range(size + 1):
            path = [item.hex() for item in merkle.consistency_path(ct_node, older, size)]
            cases.append(
                {
                    "name": f"consistency of {older} with {size}",
                    "kind": "consistency",
                    "valid": True,
                    "size_1": older,
                    "root_1": CT_ROOTS[older],
                    "size_2": size,
                    "root_2": CT_ROOTS[size],
                    "path": path,
                }
            )
    path = [item.hex() for item in merkle.inclusion_path(ct_node, 5, 8)]
    good = {
        "kind": "inclusion",
        "valid": False,
        "leaf": CT_LEAVES[5],
        "index": 5,
        "size": 8,
        "path": path,
        "root": CT_ROOTS[8],
    }
    cases += [
        good | {"name": "index beyond the tree", "index": 8},
        good | {"name": "index negative", "index": -1},
        good | {"name": "size zero", "size": 0},
        good | {"name": "path too short", "path": path[:-1]},
        good | {"name": "path too long", "path": [*path, path[0]]},
        good | {"name": "path empty", "path": []},
        good | {"name": "path with an empty hash", "path": ["", *path[1:]]},
        good | {"name": "path with a hash of 31 bytes", "path": [path[0][:-2], *path[1:]]},
        good | {"name": "path of 65", "path": path[:1] * 65},
        good | {"name": "another leaf", "leaf": CT_LEAVES[4]},
        good | {"name": "another index", "index": 4},
        good | {"name": "path in another order", "path": path[::-1]},
    ]
    path = [item.hex() for item in merkle.consistency_path(ct_node, 3, 7)]
    good = {
        "kind": "consistency",
        "valid": False,
        "size_1": 3,
        "root_1": CT_ROOTS[3],
        "size_2": 7,
        "root_2": CT_ROOTS[7],
        "path": path,
    }
    cases += [
        good | {"name": "older root forged", "root_1": CT_ROOTS[4]},
        good | {"name": "newer root forged", "root_2": CT_ROOTS[8]},
        good | {"name": "consistency path too short", "path": path[:-1]},
        good | {"name": "consistency path too long", "path": [*path, path[0]]},
        good | {"name": "consistency path empty", "path": []},
        good | {"name": "sizes the wrong way round", "size_1": 7, "size_2": 3},
        good | {"name": "older root empty", "root_1": ""},
        good | {"name": "same size, other root", "size_1": 7, "root_1": CT_ROOTS[6], "path": []},
        good | {"name": "from nothing, with a path", "size_1": 0, "root_1": CT_ROOTS[0]},
        good
        | {"name": "from nothing, root not the empty one", "size_1": 0, "root_1": CT_ROOTS[1], "path": []},
    ]
    return cases


def log_cases() -> list[Case]:
    sign = ed25519.signer(LOG_SEED)
    public_key = ed25519.public_key(LOG_SEED)
    kid = hashlib.sha256(public_key).digest()[: receipt.LOG_KID_LEN]
    batch_bytes = batch.seal_batch(GATEWAY_ID, ed25519.signer(GATEWAY_SEED), cbor.encode(batch_payload()))
    batch_hash = hashlib.sha256(batch_bytes).digest()
    decision = settlement.Settlement(
        batch_hash,
        GATEWAY_ID,
        0,
        TIME_MS + 900,
        1,
        3,
        [(1, verdicts.DUPLICATE)],
        [("issuance", -20), (f"owner:{OWNER_ID}", 20)],
    )
    entry = settlement.encode_settlement(decision)
    leaves = [merkle.leaf_hash(b"earlier"), merkle.leaf_hash(entry), merkle.leaf_hash(b"later")]

    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        return merkle.node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    root_3 = merkle.subtree_root(node, 0, 3)
    root_2 = merkle.subtree_root(node, 0, 2)
    inclusion = receipt.encode_inclusion_receipt(kid, sign, 1, 3, merkle.inclusion_path(node, 1, 3), root_3)
    consistency = receipt.encode_consistency_receipt(
        kid, sign, 2, 3, merkle.consistency_path(node, 2, 3), root_3
    )
    head = receipt.seal_tree_head(kid, sign, receipt.TreeHead(3, root_3, TIME_MS + 1000))
    answer = submission.encode_submission(entry, inclusion)
    common = {"log_public_key": public_key.hex()}

    def flip(data: bytes, at: int) -> str:
        return (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).hex()

    def inclusion_case(name: str, valid: bool, data: bytes | str, about: bytes = entry) -> Case:
        text = data if isinstance(data, str) else data.hex()
        return (
            common
            | {"name": name, "kind": "inclusion", "valid": valid, "receipt": text, "entry": about.hex()}
            | ({"index": 1, "size": 3, "root": root_3.hex()} if valid else {})
        )

    def consistency_case(name: str, valid: bool, data: bytes | str, root_1: bytes = root_2) -> Case:
        text = data if isinstance(data, str) else data.hex()
        return common | {
            "name": name,
            "kind": "consistency",
            "valid": valid,
            "receipt": text,
            "root_1": root_1.hex(),
            "root_2": root_3.hex(),
        }

    def settlement_case(name: str, valid: bool, data: bytes) -> Case:
        return {"name": name, "kind": "settlement", "valid": valid, "settlement": data.hex()} | (
            {"verdicts": decision.verdicts(), "credits": decision.credits} if valid else {}
        )

    fields = cbor.decode(entry)
    proof = cbor.encode([3, 1, merkle.inclusion_path(node, 1, 3)])
    protected = {1: -19, 4: kid, 395: 1}
    attached = cose.encode_sign1(protected, {396: {-1: [proof]}}, root_3, sign)
    wrong_vds = cose.encode_sign1(protected | {395: 2}, {396: {-1: [proof]}}, root_3, sign, detached=True)
    no_proof = cose.encode_sign1(protected, {}, root_3, sign, detached=True)
    old_alg = cose.encode_sign1(protected | {1: -8}, {396: {-1: [proof]}}, root_3, sign, detached=True)
    return [
        inclusion_case("receipt of inclusion", True, inclusion),
        inclusion_case("receipt for another entry", False, inclusion, b"earlier"),
        inclusion_case("signature flipped", False, flip(inclusion, len(inclusion) - 1)),
        inclusion_case("path flipped", False, flip(inclusion, len(inclusion) - 100)),
        inclusion_case("payload attached", False, attached),
        inclusion_case("another data structure", False, wrong_vds),
        inclusion_case("no proof", False, no_proof),
        inclusion_case("algorithm EdDSA (-8)", False, old_alg),
        inclusion_case("receipt of consistency in its place", False, consistency),
        inclusion_case("receipt cut", False, inclusion[:-1]),
        consistency_case("receipt of consistency", True, consistency),
        consistency_case("another older root", False, consistency, root_3),
        consistency_case("consistency signature flipped", False, flip(consistency, len(consistency) - 1)),
        common
        | {
            "name": "tree head",
            "kind": "head",
            "valid": True,
            "head": head.hex(),
            "size": 3,
            "root": root_3.hex(),
            "time_ms": TIME_MS + 1000,
        },
        common
        | {
            "name": "tree head, one bit of its payload flipped",
            "kind": "head",
            "valid": False,
            "head": flip(head, len(head) - 80),
        },
        settlement_case("settlement", True, entry),
        settlement_case(
            "credits don't sum to zero", False, cbor.encode(fields | {8: [["issuance", -20], ["x", 21]]})
        ),
        settlement_case("rejection beyond the batch", False, cbor.encode(fields | {7: [[3, 4]]})),
        settlement_case("rejection with an unknown code", False, cbor.encode(fields | {7: [[1, 99]]})),
        settlement_case("rejection with the code for accepted", False, cbor.encode(fields | {7: [[1, 0]]})),
        settlement_case("rejections fall", False, cbor.encode(fields | {7: [[2, 4], [1, 4]]})),
        settlement_case(
            "credit a float", False, cbor.encode(fields | {8: [["issuance", -20.0], ["x", 20.0]]})
        ),
        settlement_case("gateway id of a device", False, cbor.encode(fields | {2: DEVICE_ID})),
        common
        | {
            "name": "answer to a submission",
            "kind": "submission",
            "valid": True,
            "answer": answer.hex(),
            "batch_hash": batch_hash.hex(),
            "gateway_id": GATEWAY_ID,
            "seq": 0,
            "count": 3,
        },
        common
        | {
            "name": "answer about another batch",
            "kind": "submission",
            "valid": False,
            "answer": answer.hex(),
            "batch_hash": bytes(32).hex(),
            "gateway_id": GATEWAY_ID,
            "seq": 0,
            "count": 3,
        },
        common
        | {
            "name": "answer with another count",
            "kind": "submission",
            "valid": False,
            "answer": answer.hex(),
            "batch_hash": batch_hash.hex(),
            "gateway_id": GATEWAY_ID,
            "seq": 0,
            "count": 2,
        },
    ]


def topic_cases() -> list[Case]:
    good = [f"surge/1/{DEVICE_ID}/{channel}" for channel in ("report", "state", "ack", "command")]
    bad = [
        "",
        "surge/1",
        "surge/2/" + DEVICE_ID + "/report",
        "surge/1/" + DEVICE_ID,
        "surge/1/+/report",
        "surge/1/#",
        "surge/1/" + DEVICE_ID + "/report/x",
        "/surge/1/" + DEVICE_ID + "/report",
        "surge/1/" + DEVICE_ID + "/Report",
        "surge/1/" + DEVICE_ID.upper() + "/report",
        "surge/1/" + GATEWAY_ID + "/report",
        "$SYS/broker/uptime",
        "surge/1/" + DEVICE_ID[:-1] + "*/report",
        "surge/1/" + DEVICE_ID[:-1] + ">/report",
        "surge/1/" + DEVICE_ID[:-1] + "0/report",
    ]
    return [{"name": t, "valid": True, "topic": t, "device_id": DEVICE_ID} for t in good] + [
        {"name": t or "empty", "valid": False, "topic": t} for t in bad
    ]


FILES: dict[str, tuple[str, Any]] = {
    "cbor": ("CBOR subset: RFC 8949 appendix A and the subset's own edges", cbor_cases),
    "hkdf": ("HMAC-SHA-256 (RFC 4231), HKDF-SHA-256 (RFC 5869) and the keys of one device", hkdf_cases),
    "cose": ("COSE_Mac0 and COSE_Sign1 examples of the COSE working group", cose_cases),
    "ed25519": ("Ed25519 (RFC 8032 section 7.1), hosts only", ed25519_cases),
    "senml": ("SenML packs: [name, unit, value, sum, time_s, update_time_s] per record", senml_cases),
    "report": ("Report envelopes; 'maced' is the byte string under the MAC", report_cases),
    "ack": ("Acks", ack_cases),
    "command": ("Commands; 'maced' is the byte string under the MAC", command_cases),
    "batch": ("Batches; 'signed' is the byte string under the signature", batch_cases),
    "merkle": ("Merkle trees (RFC 9162 section 2.1) on the reference tree of RFC 6962", merkle_cases),
    "log": ("Settlements, receipts (RFC 9942), tree heads and submission answers", log_cases),
    "topics": ("MQTT topics", topic_cases),
}


def render(name: str) -> str:
    """The text of one vector file."""
    about, make = FILES[name]
    return json.dumps({"about": about, "cases": make()}, indent=1, ensure_ascii=True) + "\n"


def main() -> None:
    folder = ROOT / "protocol" / "vectors"
    for name in FILES:
        (folder / f"{name}.json").write_text(render(name), encoding="ascii")


if __name__ == "__main__":
    main()
