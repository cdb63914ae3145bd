"""The backend's two keys: the master key that seals device secrets, and the log's signing seed.

Place in the flow: `cli` makes the key files, `app` reads them, the registry seals a device's secret when it
enrols, and ingest opens it to check the device's MACs. Does not derive purpose keys (`surge_wire.hkdf` does)
and never logs.

Rules kept: a key file belongs to its owner alone (mode 0600) or is refused; it is made once and never
overwritten; a database dump holds no secret, because a device's secret is there only as AES-256-GCM under the
master key, bound to the device's id, with a fresh random nonce. A random 96-bit nonce serves 2^32 seals of
one key (NIST SP 800-38D section 8.3); there is one seal per enrolled device.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from Crypto.Cipher import AES

from surge_host.errors import UserError
from surge_host.private_files import sync_folder
from surge_wire import ed25519
from surge_wire.limits import SECRET_LEN

MASTER_KEY_LEN = 32
NONCE_LEN = 12
TAG_LEN = 16
SEALED_LEN = 1 + NONCE_LEN + SECRET_LEN + TAG_LEN
KEY_FILE_LEN_MAX = 256  # a longer file is no key file

_SEAL_VERSION = b"\x01"
_OWNER_ONLY = 0o600
_DIRECTORY_OWNER_ONLY = 0o700


class SealError(Exception):
    """A sealed secret that the master key doesn't open: another key, another device's row, or damage."""


@dataclass(frozen=True)
class SecretVault:
    """Seals and opens device secrets under one master key. Safe to share between threads."""

    master_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.master_key) != MASTER_KEY_LEN:
            raise ValueError("master key must be 32 bytes")

    def seal(self, device_id: str, secret: bytes) -> bytes:
        """`secret` (32 bytes) as SEALED_LEN bytes that only `open` with the same `device_id` turns back."""
        if len(secret) != SECRET_LEN:
            raise ValueError("device secret must be 32 bytes")
        nonce = os.urandom(NONCE_LEN)
        cipher = AES.new(self.master_key, AES.MODE_GCM, nonce=nonce, mac_len=TAG_LEN)
        cipher.update(device_id.encode())
        ciphertext, tag = cipher.encrypt_and_digest(secret)
        return _SEAL_VERSION + nonce + ciphertext + tag

    def open(self, device_id: str, sealed: bytes) -> bytes:
        """The device's 32-byte secret. Raises SealError, which names the device and nothing secret."""
        if len(sealed) != SEALED_LEN or sealed[:1] != _SEAL_VERSION:
            raise SealError(f"sealed secret of {device_id} has another format")
        cipher = AES.new(self.master_key, AES.MODE_GCM, nonce=sealed[1 : 1 + NONCE_LEN], mac_len=TAG_LEN)
        cipher.update(device_id.encode())
        try:
            return bytes(cipher.decrypt_and_verify(sealed[1 + NONCE_LEN : -TAG_LEN], sealed[-TAG_LEN:]))
        except ValueError:
            raise SealError(f"sealed secret of {device_id} doesn't open with this master key") from None


@dataclass(frozen=True)
class LogKey:
    """The log's Ed25519 key: signs receipts and tree heads."""

    seed: bytes = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that gateways and auditors verify with."""
        return ed25519.public_key(self.seed)


def make_private_directory(path: Path) -> None:
    """Make `path` for its owner alone (0700); one that others can enter is refused. Raises UserError."""
    try:
        path.mkdir(mode=_DIRECTORY_OWNER_ONLY, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(
            f"directory can't be made: {error.strerror}", str(path), "check its parent's permissions"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise UserError("directory is open to others", str(path), f"chmod 700 {path}")


def create_private_file(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, on disk before this returns; never overwrites. Raises UserError, and
    leaves none then."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _OWNER_ONLY)
    except FileExistsError:
        raise UserError(
            "file exists already and is never overwritten",
            str(path),
            "keep it; move it away only if you are sure that nothing needs it",
        ) from None
    except OSError as error:
        raise UserError(
            f"file can't be made: {error.strerror}", str(path), "check the folder's permissions"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        path.unlink()  # else half a file would stand there for a whole one, and never be overwritten
        raise UserError(
            f"file can't be written: {error.strerror}", str(path), "check the disk and its free space"
        ) from error


def read_private_file(path: Path, what: str) -> bytes:
    """The content of a file that only its owner may read. `what` names it in errors. Raises UserError."""
    try:
        # a pipe in a key's place must not hang the start
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise UserError(
            f"no {what}", str(path), "run `surge backend init`, or restore it from a backup"
        ) from None
    except OSError as error:
        raise UserError(f"{what} can't be read: {error.strerror}", str(path), "check its owner") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise UserError(f"{what} is not a plain file", str(path), "name the key file itself")
        if stat.S_IMODE(mode) & 0o077:
            raise UserError(f"{what} can be read by others", str(path), f"chmod 600 {path}")
        return os.read(descriptor, KEY_FILE_LEN_MAX + 1)
    finally:
        os.close(descriptor)


def _read_key(path: Path, what: str) -> bytes:
    text = read_private_file(path, what)
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except (UnicodeDecodeError, ValueError):
        key = b""
    if len(key) != MASTER_KEY_LEN:
        raise UserError(f"{what} is damaged", str(path), "restore it from a backup: 64 hexadecimal digits")
    return key


def create_master_key(path: Path) -> SecretVault:
    """Make the master key's file from fresh randomness."""
    key = os.urandom(MASTER_KEY_LEN)
    create_private_file(path, key.hex().encode() + b"\n")
    return SecretVault(key)


def read_master_key(path: Path) -> SecretVault:
    """The vault of the master key at `path`. Raises UserError."""
    return SecretVault(_read_key(path, "master key"))


def create_log_key(path: Path) -> LogKey:
    """Make the log key's file from fresh randomness."""
    seed = os.urandom(SECRET_LEN)
    create_private_file(path, seed.hex().encode() + b"\n")
    return LogKey(seed)


def read_log_key(path: Path) -> LogKey:
    """The log key at `path`. Raises UserError."""
    return LogKey(_read_key(path, "log key"))
