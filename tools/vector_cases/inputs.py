"""What every vector file shares: the fixed inputs, and CBOR values written as JSON."""

import struct
from typing import Any

from surge_wire import ids, senml

SECRET = bytes(range(32))
GATEWAY_SEED = bytes(range(32, 64))
LOG_SEED = bytes(range(64, 96))
DEVICE_ID = ids.make_id(ids.DEVICE, bytes(range(10)))
GATEWAY_ID = ids.make_id(ids.GATEWAY, bytes(range(10, 20)))
OWNER_ID = ids.make_id(ids.OWNER, bytes(range(20, 30)))
TIME_MS = 1_790_000_000_123
PACK = [senml.make_record("cpu", "%", 12.5), senml.make_record("mem_free", "B", 123456)]

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
