"""Ed25519 (RFC 8032) for hosts: the one module here that needs CPython. No board signs or verifies
signatures.

Signing and verifying are cryptography's (OpenSSL): 25 and 77 us where pycryptodome takes 86 and 209, and an
entry of the log is signed twice. Reading keys is pycryptodome's: OpenSSL takes any 32 bytes for a public key
and finds out at the first signature.
"""

from collections.abc import Callable

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .errors import EncodeError
from .limits import PUBLIC_KEY_LEN, SECRET_LEN, SIGNATURE_LEN


def public_key(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte private seed."""
    return bytes(_private(seed).public_key().export_key(format="raw"))


def _private(seed: bytes) -> ECC.EccKey:
    if len(seed) != SECRET_LEN:
        raise EncodeError("Ed25519 seed must be 32 bytes")
    return eddsa.import_private_key(seed)


def signer(seed: bytes) -> Callable[[bytes], bytes]:
    """A function that signs bytes with the key of ``seed``: 64-byte signatures."""
    _private(seed)
    return Ed25519PrivateKey.from_private_bytes(seed).sign


def verifier(key: bytes) -> Callable[[bytes, bytes], bool]:
    """A function ``(message, signature) -> bool`` for a 32-byte public key. Raises EncodeError if it is no
    key."""
    if len(key) != PUBLIC_KEY_LEN:
        raise EncodeError("Ed25519 public key must be 32 bytes")
    try:
        eddsa.import_public_key(key)
    except ValueError as error:
        raise EncodeError("not an Ed25519 public key") from error
    public = Ed25519PublicKey.from_public_bytes(key)

    def verify(message: bytes, signature: bytes) -> bool:
        if len(signature) != SIGNATURE_LEN:
            return False
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify
