"""Types that several resources' models share: ids, names, byte strings as text, and what a page holds.

Place in the flow: imported by the resource modules. Rule kept: every text has a length bound and a pattern,
so nothing longer or stranger than what it stands for gets past validation.
"""

import base64
import binascii
import re
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from surge_wire.ids import DEVICE, GATEWAY, OWNER
from surge_wire.limits import UINT53_MAX

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
_DECIMAL = re.compile(r"-?[0-9]{1,20}", re.ASCII)


class Model(BaseModel):
    """Base of all models: unknown members are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RequestModel(Model):
    """Base of what clients send: a value of another JSON type is refused, not turned into the right one
    (``true`` is no amount, ``"1_000"`` no number).
    """

    model_config = ConfigDict(strict=True)


def _id_pattern(kind: str) -> str:
    return f"^{kind}[a-z2-7]{{16}}$"


DEVICE_ID_PATTERN = _id_pattern(DEVICE)
GATEWAY_ID_PATTERN = _id_pattern(GATEWAY)
OWNER_ID_PATTERN = _id_pattern(OWNER)

DeviceId = Annotated[str, Field(pattern=DEVICE_ID_PATTERN, examples=["daaaaaaaaaaaaaaaa"])]
GatewayId = Annotated[str, Field(pattern=GATEWAY_ID_PATTERN, examples=["gaaaaaaaaaaaaaaaa"])]
OwnerId = Annotated[str, Field(pattern=OWNER_ID_PATTERN, examples=["oaaaaaaaaaaaaaaaa"])]
DevicePath = Annotated[str, Path(pattern=DEVICE_ID_PATTERN, description="d and 16 base32 characters")]
GatewayPath = Annotated[str, Path(pattern=GATEWAY_ID_PATTERN, description="g and 16 base32 characters")]

# Printable, no control characters: names are shown in terminals and pages.
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")]
Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]+$")]
TimeMs = Annotated[int, Field(ge=0, le=UINT53_MAX, description="milliseconds since 1970")]
Hex32 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="32 bytes, hexadecimal")]


def _check_decimal(value: object) -> object:
    """Text of a query or path that is to be a number: plain digits. ``int`` would take ``1_000``, ``+1``,
    `` 1`` and ``1.0`` as well."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value) is None:
        raise ValueError("not a number in plain digits")
    return value


Number = Annotated[int, BeforeValidator(_check_decimal)]  # of a query or path
PageLimit = Annotated[Number, Query(ge=1, le=PAGE_MAX, description="at most so many")]


def decode_base64url(text: str) -> bytes:
    """The bytes of base64url text without padding, in its one spelling. ValueError otherwise."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64url") from None
    if encode_base64url(data) != text:
        raise ValueError("not base64url without padding")
    return data


def encode_base64url(data: bytes) -> str:
    """`data` in base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _check_32_bytes(text: str) -> str:
    if len(decode_base64url(text)) != 32:
        raise ValueError("not 32 bytes")
    return text


Base64Url32 = Annotated[
    str,
    Field(min_length=43, max_length=43, description="32 bytes in base64url without padding"),
    AfterValidator(_check_32_bytes),
]


def json_response(description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """An OpenAPI response of JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema or {}}}}


def binary_response(description: str, *media_types: str) -> dict[str, Any]:
    """An OpenAPI response of bytes."""
    content = {media: {"schema": {"type": "string", "format": "binary"}} for media in media_types}
    return {"description": description, "content": content}
