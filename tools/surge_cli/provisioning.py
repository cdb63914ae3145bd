"""Gives a device its identity: a secret made here, an id given by the backend, both written where the
firmware reads.

Place in the flow: ``surge device enrol``, the demo, and whatever provisions boards. Does not flash. Rules
kept: the secret is on disk before the backend hears of it, so that a lost answer costs nothing (the same
token and secret get the same id); it leaves this machine by HTTPS only, unless the caller says otherwise;
what is written is complete or absent, never half, and readable by its owner alone.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from surge_host.addresses import is_this_machine
from surge_host.errors import UserError
from surge_host.private_files import replace_file
from surge_wire.ids import DEVICE, is_id
from surge_wire.limits import SECRET_LEN

HTTP_TIMEOUT_S = 20
PROBLEM_LEN_MAX = 500  # characters; the rest of a longer text is cut
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
    plain_http: bool = False  # allow http:// to another machine: token and secret travel in the clear


def enrol_device(wanted: Enrolment, directory: Path, random_bytes: Callable[[int], bytes]) -> str:
    """Enrol a device and write its data directory; returns its id. Safe to repeat after any failure."""
    try:
        return _enrol(wanted, directory, random_bytes)
    except OSError as error:
        raise UserError(
            f"the device's directory can't be written: {error.strerror}",
            str(error.filename or directory),
            "check that it is a directory of yours on a disk with room",
        ) from error


def _enrol(wanted: Enrolment, directory: Path, random_bytes: Callable[[int], bytes]) -> str:
    if (directory / IDENTITY_FILE).exists():
        raise UserError(
            "a device already lives here", str(directory), "choose another directory, or remove this one"
        )
    url = _devices_url(wanted)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = _secret(directory, random_bytes)
    device_id = _ask(url, wanted, secret)
    write_private(directory / "settings.json", json.dumps(dict(wanted.settings), indent=1))
    write_private(directory / "floor.json", json.dumps({"boot": 0, "command": 0}))
    write_private(directory / IDENTITY_FILE, json.dumps({"device": device_id, "secret": secret.hex()}))
    (directory / PENDING_FILE).unlink()
    return device_id


def _secret(directory: Path, random_bytes: Callable[[int], bytes]) -> bytes:
    """The secret of an enrolment that was begun here before, or a new one, on disk in either case."""
    pending = directory / PENDING_FILE
    if not pending.exists():
        secret = random_bytes(SECRET_LEN)
        write_private(pending, json.dumps({"secret": secret.hex()}))
        return secret
    try:
        secret = bytes.fromhex(json.loads(pending.read_text(encoding="ascii"))["secret"])
    except (ValueError, KeyError, TypeError):
        secret = b""
    if len(secret) != SECRET_LEN:
        raise UserError(
            "an enrolment was begun here, and its secret can't be read",
            str(pending),
            "remove the file and enrol with a new token",
        )
    return secret


def _devices_url(wanted: Enrolment) -> str:
    """Where devices are enrolled; UserError for an address that the secret mustn't travel to."""
    try:
        url = httpx.URL(wanted.backend_url.rstrip("/") + "/v1/devices")
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(
            "not the address of a backend", wanted.backend_url, "write it as https://backend.example"
        )
    if url.scheme == "http" and not wanted.plain_http and not is_this_machine(url.host):
        raise UserError(
            "the device's secret would travel in the clear",
            wanted.backend_url,
            "use https://, or --plain-http if the network in between is trusted",
        )
    return str(url)


def _ask(url: str, wanted: Enrolment, secret: bytes) -> str:
    body = {"secret": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(), "board": wanted.board}
    if wanted.name:
        body["name"] = wanted.name
    try:
        answer = httpx.post(
            url,
            json=body,
            headers={"Authorization": f"Bearer {wanted.token}"},
            timeout=HTTP_TIMEOUT_S,
            trust_env=url.startswith("https:"),  # a proxy may carry what it can't read, and nothing else
        )
    except httpx.HTTPError as error:
        raise UserError(
            "the backend doesn't answer", url, f"check address and network, then do the same again ({error})"
        ) from None
    if answer.status_code not in (200, 201):
        raise UserError("the backend refused the device", url, problem_text(answer))
    device_id = _json_object(answer).get("device_id")
    if not is_id(DEVICE, device_id):
        raise UserError("the backend's answer has no device id", url, "check that both are of one version")
    return str(device_id)


def problem_text(answer: httpx.Response) -> str:
    """What a problem document (RFC 9457) says to a person, bounded."""
    problem = _json_object(answer)
    said = [str(problem[key]) for key in ("title", "detail", "remedy") if problem.get(key)]
    return f"it said {answer.status_code}: {'; '.join(said) or 'nothing more'}"[:PROBLEM_LEN_MAX]


def _json_object(answer: httpx.Response) -> dict[str, Any]:
    """The answer's JSON object; empty where it is none, as from a proxy's error page."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, complete or not at all, durably."""
    replace_file(path, text.encode())
