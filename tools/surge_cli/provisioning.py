"""Gives a device its identity: a secret made here, an id given by the backend, both written where the
firmware reads.

Place in the flow: ``surge device enrol``, the demo, and whatever provisions boards. Does not flash. Rules
kept: as in ``surge_cli.device``; what is written is complete or absent, never half.
"""

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from surge_cli.errors import UserError
from surge_wire.ids import DEVICE, is_id
from surge_wire.limits import SECRET_LEN

HTTP_TIMEOUT_S = 20
PENDING_FILE = "identity.pending.json"
IDENTITY_FILE = "identity.json"


@dataclass(frozen=True)
class Enrolment:
    """What is asked of the backend, and the firmware's settings. The token is used once."""

    backend_url: str
    token: str
    name: str
    board: str
    settings: Mapping[str, Any]


def enrol_device(wanted: Enrolment, directory: Path, random_bytes: Callable[[int], bytes]) -> str:
    """Enrol a device and write its data directory; returns its id. Safe to repeat after any failure."""
    if (directory / IDENTITY_FILE).exists():
        raise UserError(
            "a device already lives here", str(directory), "choose another directory, or remove this one"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = _secret(directory, random_bytes)
    device_id = _ask(wanted, secret)
    write_private(directory / "settings.json", json.dumps(dict(wanted.settings), indent=1))
    write_private(directory / "floor.json", json.dumps({"boot": 0, "command": 0}))
    write_private(directory / IDENTITY_FILE, json.dumps({"device": device_id, "secret": secret.hex()}))
    (directory / PENDING_FILE).unlink()
    return device_id


def _secret(directory: Path, random_bytes: Callable[[int], bytes]) -> bytes:
    """The secret of an enrolment that was begun here before, or a new one, on disk in either case."""
    pending = directory / PENDING_FILE
    if pending.exists():
        secret = bytes.fromhex(json.loads(pending.read_text())["secret"])
    else:
        secret = random_bytes(SECRET_LEN)
        write_private(pending, json.dumps({"secret": secret.hex()}))
    return secret


def _ask(wanted: Enrolment, secret: bytes) -> str:
    body = {
        "secret": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(),
        "board": wanted.board,
        "name": wanted.name,
    }
    url = wanted.backend_url.rstrip("/") + "/v1/devices"
    try:
        answer = httpx.post(
            url, json=body, headers={"Authorization": f"Bearer {wanted.token}"}, timeout=HTTP_TIMEOUT_S
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError("the backend doesn't answer", url, f"check address and network ({error})") from None
    if answer.status_code not in (200, 201):
        raise UserError("the backend refused the device", url, problem_text(answer))
    device_id = answer.json().get("device_id")
    if not is_id(DEVICE, device_id):
        raise UserError("the backend's answer has no device id", url, "check that both are of one version")
    return str(device_id)


def problem_text(answer: httpx.Response) -> str:
    """What a problem document (RFC 9457) says to a person, bounded."""
    try:
        problem = answer.json()
        said = [str(problem.get(key)) for key in ("title", "detail", "remedy") if problem.get(key)]
    except ValueError:
        said = []
    return (f"it said {answer.status_code}: " + "; ".join(said))[:500]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, complete or not at all, durably."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
