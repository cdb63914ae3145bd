"""Command: what the backend tells one device, under the device's command key (spec/command.md).

The device persists ``counter`` before it acts and refuses any that does not rise, so a gateway or broker
can drop a command but neither invent nor repeat one. The last counter executed comes back in the next
report.
"""

from .cbor import decode, encode
from .cose import TAG_MAC0, mac_valid, open_profile, seal_mac0
from .errors import DecodeError, EncodeError
from .fields import check_uint, map_of, uint, uint_or_none
from .limits import COMMAND_ARGS_LEN_MAX, COMMAND_LEN_MAX, UINT32_MAX, UINT53_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COUNTER = 1
OPERATION = 2
ARGUMENTS = 3
EXPIRES_MS = 4
_LABELS = frozenset((COUNTER, OPERATION, ARGUMENTS, EXPIRES_MS))

SET_REPORT_INTERVAL = 1  # arguments {1: seconds}
RESTART = 2
SAMPLE_NOW = 3
OPERATIONS = frozenset((SET_REPORT_INTERVAL, RESTART, SAMPLE_NOW))


class Command:
    """``expires_ms``: a device whose clock is past it refuses; without a clock the counter alone decides."""

    __slots__ = ("arguments", "counter", "expires_ms", "operation")

    def __init__(
        self,
        counter: int,
        operation: int,
        arguments: "dict[int, Any] | None" = None,
        expires_ms: "int | None" = None,
    ) -> None:
        self.counter = counter
        self.operation = operation
        self.arguments = arguments
        self.expires_ms = expires_ms


def seal_command(device_id: str, command_key: bytes, command: Command) -> bytes:
    """The envelope of ``command``, at most COMMAND_LEN_MAX bytes."""
    fields: "dict[int, Any]" = {
        COUNTER: check_uint(command.counter, UINT32_MAX, "counter"),
        OPERATION: check_uint(command.operation, UINT32_MAX, "operation"),
    }
    if command.arguments is not None:
        if len(encode(command.arguments)) > COMMAND_ARGS_LEN_MAX:
            raise EncodeError("arguments too long")
        fields[ARGUMENTS] = command.arguments
    if command.expires_ms is not None:
        fields[EXPIRES_MS] = check_uint(command.expires_ms, UINT53_MAX, "expires_ms")
    return seal_mac0(device_id, command_key, encode(fields), COMMAND_LEN_MAX)


def open_command(envelope: bytes, device_id: str, command_key: bytes) -> Command:
    """The command, if it is for ``device_id`` and under its key. Raises DecodeError."""
    opened = open_profile(TAG_MAC0, envelope, COMMAND_LEN_MAX)
    if opened.kid != device_id.encode():
        raise DecodeError("command for another device")
    if not mac_valid(opened, command_key):
        raise DecodeError("MAC not valid")
    fields = map_of(decode(opened.payload), _LABELS)
    arguments = fields.get(ARGUMENTS)
    if ARGUMENTS in fields and type(arguments) is not dict:
        raise DecodeError("arguments not a map")
    return Command(
        uint(fields, COUNTER, UINT32_MAX),
        uint(fields, OPERATION, UINT32_MAX),
        arguments,
        uint_or_none(fields, EXPIRES_MS, UINT53_MAX),
    )
