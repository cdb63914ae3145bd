"""Ed25519 (RFC 8032) for hosts: the one module here that needs CPython. No board signs or verifies
signatures.

pycryptodome: 0.29 ms a verification where libsodium takes 0.05; a batch of hundreds of reports is verified
once, so this is under 1 us a report, and one library serves all of the system's cryptography.
"""

from collections.abc import Callable

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

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
    scheme = eddsa.new(_private(seed), "rfc8032")
    return lambda message: bytes(scheme.sign(message))


def verifier(key: bytes) -> Callable[[bytes, bytes], bool]:
    """A function ``(message, signature) -> bool`` for a 32-byte public key. Raises EncodeError if it is no
    key."""
    if len(key) != PUBLIC_KEY_LEN:
        raise EncodeError("Ed25519 public key must be 32 bytes")
    try:
        scheme = eddsa.new(eddsa.import_public_key(key), "rfc8032")
    except ValueError as error:
        raise EncodeError("not an Ed25519 public key") from error

    def verify(message: bytes, signature: bytes) -> bool:
        if len(signature) != SIGNATURE_LEN:
            return False
        try:
            scheme.verify(message, signature)
        except ValueError:
            return False
        return True

    return verify
