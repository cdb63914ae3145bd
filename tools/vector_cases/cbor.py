"""CBOR subset: RFC 8949 appendix A, and the subset's own edges."""

from typing import Any

from vector_cases.inputs import Case, tagged

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
