"""Key files are private and never overwritten; a sealed secret opens for its own device only."""

import os
import stat
from pathlib import Path

import pytest

from surge_backend.keys import (
    SEALED_LEN,
    SealError,
    SecretVault,
    create_log_key,
    create_master_key,
    create_private_file,
    make_private_directory,
    read_log_key,
    read_master_key,
    read_private_file,
)
from surge_host.errors import UserError

DEVICE = "daaaaaaaaaaaaaaaa"
OTHER = "dbbbbbbbbbbbbbbbb"
SECRET = bytes(range(32))


def test_created_keys_are_private_and_read_back_the_same(tmp_path: Path) -> None:
    vault = create_master_key(tmp_path / "master.key")
    log_key = create_log_key(tmp_path / "log.key")
    for name in ("master.key", "log.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert read_master_key(tmp_path / "master.key") == vault
    assert read_log_key(tmp_path / "log.key").public_key == log_key.public_key
    assert len(log_key.public_key) == 32


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    create_master_key(tmp_path / "master.key")
    before = (tmp_path / "master.key").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        create_master_key(tmp_path / "master.key")
    assert (tmp_path / "master.key").read_bytes() == before


def test_a_link_is_not_followed_when_a_key_is_made(tmp_path: Path) -> None:
    (tmp_path / "master.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError):
        create_master_key(tmp_path / "master.key")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.threat(25)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    create_master_key(path)
    path.chmod(mode)
    with pytest.raises(UserError) as caught:
        read_master_key(path)
    assert caught.value.remedy == f"chmod 600 {path}"
    assert caught.value.where == str(path)


def test_a_missing_key_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_log_key(tmp_path / "log.key")
    assert "surge backend init" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"00" * 33, b"\xff" * 64, b"0" * 100_000])
def test_a_damaged_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    create_private_file(tmp_path / "log.key", content)
    with pytest.raises(UserError, match="damaged") as caught:
        read_log_key(tmp_path / "log.key")
    assert content[:20].decode("latin-1") not in str(caught.value) or not content


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "log.key").mkdir(mode=0o700)
    with pytest.raises(UserError):
        read_log_key(tmp_path / "log.key")


def test_data_directory_is_for_its_owner(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "data")
    assert stat.S_IMODE((tmp_path / "a" / "data").stat().st_mode) == 0o700
    make_private_directory(tmp_path / "a" / "data")  # again: nothing to do
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(UserError) as caught:
        make_private_directory(tmp_path / "open")
    assert caught.value.remedy.startswith("chmod 700")


def test_private_file_is_read_whole(tmp_path: Path) -> None:
    create_private_file(tmp_path / "token", b"text\n")
    assert read_private_file(tmp_path / "token", "token") == b"text\n"


def test_sealed_secret_opens_for_its_device() -> None:
    vault = SecretVault(os.urandom(32))
    sealed = vault.seal(DEVICE, SECRET)
    assert len(sealed) == SEALED_LEN
    assert vault.open(DEVICE, sealed) == SECRET
    assert SECRET not in sealed


def test_every_seal_has_its_own_nonce() -> None:
    vault = SecretVault(os.urandom(32))
    assert vault.seal(DEVICE, SECRET) != vault.seal(DEVICE, SECRET)


@pytest.mark.threat(25)
def test_sealed_secret_is_bound_to_device_and_key() -> None:
    vault = SecretVault(os.urandom(32))
    sealed = vault.seal(DEVICE, SECRET)
    with pytest.raises(SealError, match=OTHER):
        vault.open(OTHER, sealed)
    with pytest.raises(SealError, match="master key"):
        SecretVault(os.urandom(32)).open(DEVICE, sealed)


def test_every_flipped_bit_is_noticed() -> None:
    vault = SecretVault(os.urandom(32))
    sealed = vault.seal(DEVICE, SECRET)
    for index in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[index] ^= 1
        with pytest.raises(SealError):
            vault.open(DEVICE, bytes(damaged))
    with pytest.raises(SealError):
        vault.open(DEVICE, sealed[:-1])


@pytest.mark.threat(25)
def test_keys_do_not_show_in_a_repr(tmp_path: Path) -> None:
    vault = SecretVault(bytes(range(32)))
    log_key = create_log_key(tmp_path / "log.key")
    for shown in (repr(vault), repr(log_key)):
        assert bytes(range(32)).hex() not in shown
        assert log_key.seed.hex() not in shown
        assert repr(log_key.seed) not in shown
