"""The backend's HTTP interface, as far as a gateway needs it.

Place in the flow: under `uplink`, `registry`, `dispatch`, `log_watch` and `init_command`. Does not retry
and judges no receipt. Rules kept: every request has a time-out; every answer is bounded while it is read
and checked before it is believed; three errors say what to do next: `Unavailable` try again soon, `Refusal`
somebody must act, `AnswerInvalid` the answer is not what the interface says.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from surge_gateway.clock import Clock
from surge_gateway.errors import GatewayError
from surge_wire.ids import DEVICE, GATEWAY, is_id
from surge_wire.limits import COMMAND_LEN_MAX, HASH_LEN, PUBLIC_KEY_LEN, RECEIPT_LEN_MAX, UINT53_MAX
from surge_wire.submission import SUBMISSION_LEN_MAX

JSON_LEN_MAX = 8 * 1024 * 1024  # a longer answer is not read further
PROBLEM_LEN_MAX = 64 * 1024
RETRY_AFTER_MAX_S = 3600.0  # a backend that asks for longer is asked again after this
VERIFIER_LEN_MAX = 256


class Unavailable(GatewayError):
    """No answer, or one that says later. `retry_after_s` is the least to wait."""

    def __init__(self, what: str, retry_after_s: float = 0.0) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class Refusal(GatewayError):
    """The backend understood and refused.

    `code` and `remedy` are from its problem document, where it has them; `said` is the text without remedy.
    """

    def __init__(self, status: int, code: str, detail: str, remedy: str = "") -> None:
        self.said = f"{status} {code}: {detail}"
        known = not remedy or remedy in detail
        super().__init__(self.said if known else f"{self.said}; {remedy}")
        self.status = status
        self.code = code
        self.remedy = remedy


class AnswerInvalid(GatewayError):
    """The answer is not what the interface says it is: another server, or a broken one."""


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What the backend knows of this gateway."""

    gateway_id: str
    next_batch_seq: int
    previous: bytes
    log_public_key: bytes
    server_time_ms: int


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """A device of this gateway, with what the brokers check its password with."""

    device_id: str
    status: str
    mqtt_bcrypt: str
    mqtt_pbkdf2_sha512: str
    revision: int


@dataclass(frozen=True, slots=True)
class DevicePage:
    """Devices that changed after a revision. `more`: ask again from `revision`."""

    revision: int
    devices: list[DeviceEntry]
    more: bool


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command for one device, sealed by the backend."""

    number: int
    device_id: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The answer to an enrolment."""

    gateway_id: str
    token: str
    log_public_key: bytes
    log_id: str


def encode_base64url(data: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(data).decode().rstrip("=")


def decode_base64url(text: str) -> bytes:
    """Raises ValueError."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class BackendClient:
    """One connection pool. `token` None: before enrolment."""

    def __init__(self, http: httpx.AsyncClient, url: str, token: str | None, clock: Clock) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._clock = clock

    async def enrol(self, enrolment_token: str, public_key: bytes, name: str) -> Enrolled:
        """Make this key a gateway. The same token with the same key again gives the same gateway."""
        body = {"public_key": encode_base64url(public_key), "name": name}
        headers = {"Authorization": f"Bearer {enrolment_token}"}
        answer = await self._json("POST", "/v1/gateways", json=body, headers=headers)
        return Enrolled(
            _id(answer, "gateway_id", GATEWAY),
            _text(answer, "token", 4096),
            _octets(answer, "log_public_key", PUBLIC_KEY_LEN),
            _text(answer, "log_id", 256),
        )

    async def own_state(self) -> GatewayState:
        """Where the backend sees this gateway's chain."""
        answer = await self._json("GET", "/v1/gateways/self")
        try:
            previous = bytes.fromhex(_text(answer, "previous", 2 * HASH_LEN))
        except ValueError as error:
            raise AnswerInvalid("previous is not hexadecimal") from error
        if len(previous) != HASH_LEN:
            raise AnswerInvalid("previous is not 32 bytes")
        return GatewayState(
            _id(answer, "gateway_id", GATEWAY),
            _uint(answer, "next_batch_seq"),
            previous,
            _octets(answer, "log_public_key", PUBLIC_KEY_LEN),
            _uint(answer, "server_time_ms"),
        )

    async def submit(self, envelope: bytes) -> bytes:
        """The answer's bytes, unverified."""
        headers = {"Content-Type": "application/cose", "Accept": "application/cbor"}
        return await self._bytes("POST", "/v1/batches", SUBMISSION_LEN_MAX, content=envelope, headers=headers)

    async def devices(self, after_revision: int) -> DevicePage:
        """This gateway's devices that changed after `after_revision`."""
        path = f"/v1/gateways/self/devices?after_revision={after_revision}"
        answer = await self._json("GET", path)
        entries = [
            DeviceEntry(
                _id(entry, "device_id", DEVICE),
                _text(entry, "status", 32),
                _text_or_empty(entry, "mqtt_bcrypt", VERIFIER_LEN_MAX),
                _text_or_empty(entry, "mqtt_pbkdf2_sha512", VERIFIER_LEN_MAX),
                _uint(entry, "revision"),
            )
            for entry in _list(answer, "devices")
        ]
        return DevicePage(_uint(answer, "revision"), entries, answer.get("more") is True)

    async def commands(self, after_id: int) -> list[CommandEntry]:
        """Commands that are not executed and not expired, for this gateway's devices."""
        answer = await self._json("GET", f"/v1/gateways/self/commands?after_id={after_id}")
        return [
            CommandEntry(
                _uint(entry, "id"),
                _id(entry, "device_id", DEVICE),
                _octets(entry, "envelope", COMMAND_LEN_MAX, 0),
            )
            for entry in _list(answer, "commands")
        ]

    async def log_head(self) -> bytes:
        """The signed tree head, unverified."""
        headers = {"Accept": "application/cose"}
        return await self._bytes("GET", "/v1/log/head", RECEIPT_LEN_MAX, headers=headers)

    async def log_consistency(self, size_1: int, size_2: int) -> bytes:
        """The receipt of consistency between two sizes, unverified."""
        headers = {"Accept": "application/cose"}
        path = f"/v1/log/consistency?from={size_1}&to={size_2}"
        return await self._bytes("GET", path, RECEIPT_LEN_MAX, headers=headers)

    async def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        data = await self._bytes(method, path, JSON_LEN_MAX, **request)
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise AnswerInvalid(f"{method} {path.partition('?')[0]}: not JSON") from error
        if type(answer) is not dict:
            raise AnswerInvalid(f"{method} {path.partition('?')[0]}: not a JSON object")
        return answer

    async def _bytes(self, method: str, path: str, len_max: int, **request: Any) -> bytes:
        request["headers"] = self._headers | request.get("headers", {})
        try:
            async with self._http.stream(method, self._url + path, **request) as response:
                if response.status_code in (200, 201):
                    return await _read(response, len_max)
                problem = await _read(response, PROBLEM_LEN_MAX)
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        raise self._problem(response, problem)

    def _problem(self, response: httpx.Response, body: bytes) -> GatewayError:
        try:
            problem = json.loads(body)
        except (ValueError, RecursionError):
            problem = {}
        if type(problem) is not dict:
            problem = {}
        status = response.status_code
        code = str(problem.get("code", ""))[:64]
        detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)[:500]
        if status >= 500 or status in (408, 425, 429):
            return Unavailable(f"{status} {code} {detail}", self._retry_after_s(response))
        return Refusal(status, code, detail, str(problem.get("remedy", ""))[:500])

    def _retry_after_s(self, response: httpx.Response) -> float:
        """RFC 9110 section 10.2.3: seconds or a date; anything else counts as none."""
        text = response.headers.get("Retry-After", "")
        if text.isdecimal():
            return min(float(text), RETRY_AFTER_MAX_S)
        try:
            seconds = parsedate_to_datetime(text).timestamp() - self._clock.now_ms() / 1000
        except (ValueError, TypeError):
            return 0.0
        return min(max(0.0, seconds), RETRY_AFTER_MAX_S)


async def _read(response: httpx.Response, len_max: int) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > len_max:
            raise AnswerInvalid(f"answer longer than {len_max} bytes")
    return bytes(data)


def _list(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = answer.get(name)
    if type(value) is not list or any(type(entry) is not dict for entry in value):
        raise AnswerInvalid(f"{name} is not a list of objects")
    return value


def _uint(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name)
    if type(value) is not int or not 0 <= value <= UINT53_MAX:
        raise AnswerInvalid(f"{name} is not a number")
    return value


def _text(answer: dict[str, Any], name: str, len_max: int) -> str:
    value = answer.get(name)
    if type(value) is not str or not 0 < len(value) <= len_max:
        raise AnswerInvalid(f"{name} is not a text")
    return value


def _text_or_empty(answer: dict[str, Any], name: str, len_max: int) -> str:
    return _text(answer, name, len_max) if answer.get(name) else ""


def _id(answer: dict[str, Any], name: str, kind: str) -> str:
    value = _text(answer, name, 64)
    if not is_id(kind, value):
        raise AnswerInvalid(f"{name} is not an id")
    return value


def _octets(answer: dict[str, Any], name: str, len_max: int, len_min: int | None = None) -> bytes:
    """base64url bytes of `len_max` bytes, or from `len_min` to it."""
    text = _text(answer, name, 2 * len_max + 4)
    try:
        data = decode_base64url(text)
    except ValueError as error:
        raise AnswerInvalid(f"{name} is not base64url") from error
    if not (len_max if len_min is None else len_min) <= len(data) <= len_max:
        raise AnswerInvalid(f"{name} has {len(data)} bytes")
    return data
