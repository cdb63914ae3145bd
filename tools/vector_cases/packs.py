"""SenML packs."""

from typing import Any

from surge_wire import cbor
from vector_cases.inputs import Case, tagged


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
