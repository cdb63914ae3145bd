"""Small files of an auditor: what was seen of a log, and devices' report keys.

Place in the flow: ``surge verify --remember`` reads the file before and writes it after; ``--device-keys``
reads what ``surge export --device-keys-out`` wrote.

Rules it keeps: a damaged file is a UserError and never taken for an empty one; a head is kept as the log
signed it, so that a fork is proven by two signatures.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from surge_backend.audit.served import encode_key
from surge_host.errors import UserError
from surge_host.private_files import replace_file
from surge_wire.ids import DEVICE, is_id
from surge_wire.limits import KEY_LEN, RECEIPT_LEN_MAX

FILE_LEN_MAX: Final = 64 * 1024
LINE_LEN_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Remembered:
    """A log's public key and the newest head that it signed, empty if it had none."""

    log_public_key: bytes
    head: bytes


def read_remembered(path: Path) -> Remembered | None:
    """What the file says, None if there is no such file yet. Raises UserError."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LEN_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"the file can't be read: {error.strerror}", str(path), "check its owner") from error
    try:
        fields = json.loads(data if len(data) <= FILE_LEN_MAX else b"")
        key, head = bytes.fromhex(fields["log_public_key"]), bytes.fromhex(fields["head"])
    except (ValueError, KeyError, TypeError):
        key = head = b""
    if len(key) != KEY_LEN or len(head) > RECEIPT_LEN_MAX:
        raise UserError(
            "this is not what an earlier `surge verify --remember` wrote",
            str(path),
            "restore it from a backup; a new file would take the key on trust once more",
        )
    return Remembered(key, head)


def write_remembered(path: Path, remembered: Remembered, tree_size: int) -> None:
    """Replace the file in one step. Raises UserError."""
    text = {
        "log_public_key": remembered.log_public_key.hex(),
        "log_public_key_base64url": encode_key(remembered.log_public_key),
        "tree_size": tree_size,
        "head": remembered.head.hex(),
    }
    try:
        replace_file(path, json.dumps(text, indent=1).encode() + b"\n")
    except OSError as error:
        raise UserError(
            f"what was seen can't be kept: {error.strerror}", str(path), "check the folder and its disk"
        ) from error


def format_device_keys(keys: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The lines of a file of report keys."""
    for device_id, key in keys:
        yield f"{device_id} {key.hex()}\n".encode()


def read_device_keys(path: Path) -> dict[str, bytes]:
    """Report keys by device. Raises UserError."""
    keys: dict[str, bytes] = {}
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_LEN_MAX):
                number += 1
                keys.update([_device_key(line, path, number)])
    except OSError as error:
        raise UserError(
            f"the devices' keys can't be read: {error.strerror}", str(path), "check the name and its owner"
        ) from error
    return keys


def _device_key(line: bytes, path: Path, number: int) -> tuple[str, bytes]:
    try:
        device_id, text = line.decode("ascii").split()
        key = bytes.fromhex(text)
    except ValueError:
        device_id, key = "", b""
    if not is_id(DEVICE, device_id) or len(key) != KEY_LEN:
        remedy = "give the file that `surge export --device-keys-out` wrote"
        raise UserError(f"line {number} is no device and report key", str(path), remedy)
    return device_id, key
