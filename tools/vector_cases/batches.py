"""Batches: signature, chain, windows."""

from typing import Any

from surge_wire import batch, cbor, ed25519, hkdf, report
from vector_cases.inputs import DEVICE_ID, GATEWAY_ID, GATEWAY_SEED, PACK, SECRET, TIME_MS, Case


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
