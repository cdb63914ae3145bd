"""Acks, commands and topics: what goes to a device, and where."""

from typing import Any

from surge_wire import ack, cbor, command, cose, hkdf, ids
from vector_cases.inputs import DEVICE_ID, GATEWAY_ID, SECRET, TIME_MS, Case, tagged


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
