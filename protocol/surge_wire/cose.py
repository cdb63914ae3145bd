"""COSE envelopes (RFC 9052): COSE_Mac0 with HMAC 256/256, COSE_Sign1 with Ed25519.

Two layers:

* ``parse`` reads any tagged COSE_Mac0 or COSE_Sign1 whose headers stay within the CBOR subset: receipts and
  the standards' own examples go through it;
* ``open_profile`` reads the one shape that reports, commands and batches have: protected header
  ``{1: alg, 4: kid}`` with a 17-byte kid, empty unprotected header, payload, 32 or 64 bytes of proof. Fixed
  bytes stand at fixed places, so opening is slicing, and no second encoding of the same envelope exists.

The payload is opaque here and is never re-encoded: what was signed is what is stored and forwarded.
"""

from .cbor import decode, encode
from .cbor_pure import encode_head
from .errors import DecodeError, EncodeError
from .hkdf import equal_in_constant_time, hmac_sha256
from .limits import CBOR_LEN_MAX, ID_LEN, MAC_LEN, SIGNATURE_LEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

TAG_MAC0 = 17  # RFC 9052 section 6.2
TAG_SIGN1 = 18  # RFC 9052 section 4.2
ALG_HMAC_256_256 = 5  # RFC 9053 section 3.1
ALG_ED25519 = -19  # RFC 9864 section 2.2: Ed25519 alone; EdDSA (-8) is deprecated there
HEADER_ALG = 1
HEADER_KID = 4

_PROOF_LEN = {TAG_MAC0: MAC_LEN, TAG_SIGN1: SIGNATURE_LEN}
_CONTEXT = {TAG_MAC0: b"\x84\x64MAC0", TAG_SIGN1: b"\x84\x6aSignature1"}
_ALG = {TAG_MAC0: ALG_HMAC_256_256, TAG_SIGN1: ALG_ED25519}

# tag, array of 4, protected header of 22 bytes: {1: alg, 4: 17 bytes}
_PREFIX = {
    TAG_MAC0: b"\xd1\x84\x56\xa2\x01\x05\x04\x51",
    TAG_SIGN1: b"\xd2\x84\x56\xa2\x01\x32\x04\x51",
}
_PREFIX_LEN = 8
_PROTECTED_AT = 2  # the protected header's own head is at this offset
_PAYLOAD_AT = _PREFIX_LEN + ID_LEN + 1


class Envelope:
    """A parsed COSE object. ``proof`` is the MAC tag or the signature; ``payload`` is None where it is
    detached."""

    __slots__ = ("payload", "proof", "protected", "protected_bytes", "tag", "unprotected")

    def __init__(
        self,
        tag: int,
        protected_bytes: bytes,
        protected: "dict[int, Any]",
        unprotected: "dict[int, Any]",
        payload: "bytes | None",
        proof: bytes,
    ) -> None:
        self.tag = tag
        self.protected_bytes = protected_bytes
        self.protected = protected
        self.unprotected = unprotected
        self.payload = payload
        self.proof = proof


class Opened:
    """An envelope of our profile, unverified: ``signed`` is the exact byte string that the proof covers."""

    __slots__ = ("kid", "payload", "proof", "signed")

    def __init__(self, kid: bytes, payload: bytes, signed: bytes, proof: bytes) -> None:
        self.kid = kid
        self.payload = payload
        self.signed = signed
        self.proof = proof


def _head(major: int, argument: int) -> bytes:
    out = bytearray()
    encode_head(out, major, argument)
    return bytes(out)


def to_be_signed(tag: int, protected_bytes: bytes, payload: bytes, external_aad: bytes = b"") -> bytes:
    """The MAC_structure (RFC 9052 section 6.3) or Sig_structure (section 4.4) as bytes."""
    return (
        _CONTEXT[tag]
        + _head(2, len(protected_bytes))
        + protected_bytes
        + _head(2, len(external_aad))
        + external_aad
        + _head(2, len(payload))
        + payload
    )


def parse(tag: int, data: bytes) -> Envelope:
    """Read a tagged COSE_Mac0 or COSE_Sign1 with any headers of the CBOR subset."""
    if len(data) < 2 or data[0] != 0xC0 | tag:
        raise DecodeError("not the expected COSE tag", 0)
    if len(data) > CBOR_LEN_MAX:
        raise DecodeError("too long")
    parts = decode(data[1:])
    if type(parts) is not list or len(parts) != 4:
        raise DecodeError("COSE object not an array of 4")
    protected_bytes, unprotected, payload, proof = parts
    if type(protected_bytes) is not bytes or type(unprotected) is not dict or type(proof) is not bytes:
        raise DecodeError("COSE field of the wrong type")
    if payload is not None and type(payload) is not bytes:
        raise DecodeError("COSE field of the wrong type")
    protected = decode(protected_bytes) if protected_bytes else {}
    if type(protected) is not dict:
        raise DecodeError("protected header not a map")
    for label in protected:
        if label in unprotected:
            raise DecodeError("header in both buckets")
    return Envelope(tag, protected_bytes, protected, unprotected, payload, proof)


def open_profile(tag: int, data: bytes, len_max: int) -> Opened:
    """Open a report, command or batch. The proof is not checked; see ``mac_valid``. Raises DecodeError."""
    if len(data) < _PAYLOAD_AT or data[:_PREFIX_LEN] != _PREFIX[tag] or data[_PAYLOAD_AT - 1] != 0xA0:
        if len(data) > len_max:
            raise DecodeError("too long")
        raise DecodeError("not an envelope of this profile")
    payload_at = _payload_at(tag, data, len_max)
    proof_at = len(data) - _PROOF_LEN[tag]
    return Opened(
        data[_PREFIX_LEN : _PAYLOAD_AT - 1],
        data[payload_at : proof_at - 2],
        # protected header as it stands, empty external_aad, payload as it stands
        _CONTEXT[tag] + data[_PROTECTED_AT : _PAYLOAD_AT - 1] + b"\x40" + data[_PAYLOAD_AT : proof_at - 2],
        data[proof_at:],
    )


def profile_start(tag: int, kid: bytes) -> bytes:
    """What every envelope of the profile under ``kid`` begins with, up to its payload."""
    return _PREFIX[tag] + kid + b"\xa0"


def payload_of(tag: int, start: bytes, data: bytes, len_max: int) -> bytes:
    """The payload of an envelope that begins with ``start`` (see `profile_start`): what `open_profile` gives,
    for a reader who knows whose envelope it must be and can't check its proof. Raises DecodeError."""
    if not data.startswith(start):
        raise DecodeError("not an envelope of this profile")
    return data[_payload_at(tag, data, len_max) : len(data) - _PROOF_LEN[tag] - 2]


def _payload_at(tag: int, data: bytes, len_max: int) -> int:
    """Where the payload begins, behind its head; both heads are checked. Raises DecodeError."""
    length = len(data)
    if length > len_max:
        raise DecodeError("too long")
    proof_len = _PROOF_LEN[tag]
    proof_at = length - proof_len
    # Payload and its head, which is 1, 2, 3 or 5 bytes; only the shortest that reaches exactly to the proof
    # will do. Of some lengths there is none (25 and 258 bytes, head and payload together).
    both = proof_at - 2 - _PAYLOAD_AT
    if both <= 24:
        head_len = 1
    elif both <= 257:
        head_len = 2
    elif both <= 65_538:
        head_len = 3
    else:
        head_len = 5
    payload_at = _PAYLOAD_AT + head_len
    if (
        both <= 0
        or data[_PAYLOAD_AT:payload_at] != _head(2, both - head_len)
        or data[proof_at - 2] != 0x58
        or data[proof_at - 1] != proof_len
    ):
        raise DecodeError("not an envelope of this profile")
    return payload_at


def _seal(tag: int, kid: str, payload: bytes, prove: "Callable[[bytes], bytes]", len_max: int) -> bytes:
    kid_bytes = kid.encode()
    if len(kid_bytes) != ID_LEN:
        raise EncodeError("kid must be an id")
    protected = _PREFIX[tag][3:] + kid_bytes
    proof = prove(to_be_signed(tag, protected, payload))
    out = _PREFIX[tag] + kid_bytes + b"\xa0" + _head(2, len(payload)) + payload + _head(2, len(proof)) + proof
    if len(proof) != _PROOF_LEN[tag] or len(out) > len_max:
        raise EncodeError("envelope too long", str(len(out)))
    return out


def seal_mac0(kid: str, key: bytes, payload: bytes, len_max: int) -> bytes:
    """A tagged COSE_Mac0 of ``payload`` under ``key``, at most ``len_max`` bytes."""
    return _seal(TAG_MAC0, kid, payload, lambda signed: hmac_sha256(key, signed), len_max)


def seal_sign1(kid: str, sign: "Callable[[bytes], bytes]", payload: bytes, len_max: int) -> bytes:
    """A tagged COSE_Sign1 of ``payload``; ``sign`` makes the 64-byte Ed25519 signature of the bytes it is
    given."""
    return _seal(TAG_SIGN1, kid, payload, sign, len_max)


def mac_valid(opened: Opened, key: bytes) -> bool:
    """Whether the MAC of an opened COSE_Mac0 is right under ``key``."""
    return equal_in_constant_time(hmac_sha256(key, opened.signed), opened.proof)


def encode_sign1(
    protected: "dict[int, Any]",
    unprotected: "dict[int, Any]",
    payload: bytes,
    sign: "Callable[[bytes], bytes]",
    detached: bool = False,
) -> bytes:
    """A tagged COSE_Sign1 with any headers; with ``detached`` the payload is signed but left out (null)."""
    protected_bytes = encode(protected)
    signature = sign(to_be_signed(TAG_SIGN1, protected_bytes, payload))
    return b"\xd2" + encode([protected_bytes, unprotected, None if detached else payload, signature])
