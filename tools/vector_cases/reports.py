"""Reports: the envelope, the payload, and what a reader must refuse of each."""

from surge_wire import cbor, cose, hkdf, ids, report
from vector_cases.inputs import DEVICE_ID, GATEWAY_ID, PACK, SECRET, TIME_MS, Case, tagged


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
