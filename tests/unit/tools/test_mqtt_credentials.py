"""Verifiers: right ones verify, and nothing else does."""

import hashlib
import itertools
import subprocess
import sys

import pytest

from surge_host import mqtt_credentials as credentials
from surge_host.mqtt_credentials import (
    PASSWORD_BYTES_MAX,
    PBKDF2_SALT_BYTES,
    is_bcrypt,
    is_mosquitto_pbkdf2,
    make_bcrypt,
    make_device_credential,
    make_gateway_credential,
    make_mosquitto_pbkdf2,
    verify_bcrypt,
    verify_mosquitto_pbkdf2,
)

PASSWORD = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE"
SALT = bytes(range(PBKDF2_SALT_BYTES))

# Made by Debian's mosquitto_passwd 2.0.11 (`mosquitto_passwd -b file user secret`).
BY_MOSQUITTO = (
    "$7$101$e5HlkZldRdx4zANX$"
    "ZZTJvXqeAvnfLjmaF85RXZf+sT3EpxTt3xTb1Y1Cp3j3aIX6b1Z9vpzE509cFq0+vwN/ZqhQS6mMba2+0l+6QA=="
)


def test_a_bcrypt_verifier_verifies_its_password_only() -> None:
    verifier = make_bcrypt(PASSWORD)
    assert verifier.startswith("$2b$04$")
    assert is_bcrypt(verifier)
    assert verify_bcrypt(PASSWORD, verifier)
    assert not verify_bcrypt(PASSWORD[:-1], verifier)
    assert make_bcrypt(PASSWORD) != verifier


def test_the_cost_is_the_callers() -> None:
    verifier = make_bcrypt(PASSWORD, 5)
    assert verifier.startswith("$2b$05$")
    assert verify_bcrypt(PASSWORD, verifier)


def test_a_pbkdf2_verifier_has_mosquittos_form() -> None:
    verifier = make_mosquitto_pbkdf2(PASSWORD, SALT)
    _, kind, iterations, salt, digest = verifier.split("$")
    assert (kind, iterations, salt) == ("7", "101", "AAECAwQFBgcICQoL")
    assert len(digest) == 88
    assert verify_mosquitto_pbkdf2(PASSWORD, verifier)
    assert not verify_mosquitto_pbkdf2(PASSWORD + "x", verifier)
    assert verify_mosquitto_pbkdf2(PASSWORD, make_mosquitto_pbkdf2(PASSWORD, SALT, 7))


def test_a_verifier_of_mosquittos_own_tool_verifies() -> None:
    assert verify_mosquitto_pbkdf2("secret", BY_MOSQUITTO)
    assert not verify_mosquitto_pbkdf2("Secret", BY_MOSQUITTO)


@pytest.mark.parametrize("password", ["", "x" * (PASSWORD_BYTES_MAX + 1), "nul\0inside", "é" * 40])
def test_an_unusable_password_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="1 to 72 bytes"):
        make_bcrypt(password)
    with pytest.raises(ValueError, match="1 to 72 bytes"):
        make_mosquitto_pbkdf2(password, SALT)


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="salt has 11 bytes"):
        make_mosquitto_pbkdf2(PASSWORD, SALT[1:])
    for iterations in (0, -1, 10_000_001):
        with pytest.raises(ValueError, match="iterations"):
            make_mosquitto_pbkdf2(PASSWORD, SALT, iterations)
    with pytest.raises(ValueError, match="rounds"):
        make_bcrypt(PASSWORD, 3)


GOOD_BCRYPT = make_bcrypt(PASSWORD)
GOOD_PBKDF2 = make_mosquitto_pbkdf2(PASSWORD, SALT)


@pytest.mark.parametrize(
    "text",
    ids=itertools.count(),  # the texts themselves are salted anew in each process
    argvalues=[
        "",
        PASSWORD,
        GOOD_PBKDF2,
        GOOD_BCRYPT[:-1],
        GOOD_BCRYPT + "x",
        GOOD_BCRYPT + "\n",
        "$2b$04$" + '"' * 53,
    ],
)
def test_what_is_no_bcrypt_verifier_verifies_nothing(text: str) -> None:
    assert not is_bcrypt(text)
    assert not verify_bcrypt(PASSWORD, text)


@pytest.mark.parametrize(
    "text",
    ids=itertools.count(),  # the texts themselves are salted anew in each process
    argvalues=[
        "",
        PASSWORD,
        GOOD_BCRYPT,
        GOOD_PBKDF2[:-1],
        GOOD_PBKDF2 + "\n",
        GOOD_PBKDF2.replace("$7$101", "$7$0"),
        GOOD_PBKDF2.replace("$7$101", "$7$99999999"),
        GOOD_PBKDF2.replace("$7$101", "$6"),
        GOOD_PBKDF2.replace("AAECAwQFBgcICQoL", "AAECAwQFBgcICQo\n"),
    ],
)
def test_what_is_no_pbkdf2_verifier_verifies_nothing(text: str) -> None:
    assert not verify_mosquitto_pbkdf2(PASSWORD, text)
    assert not is_mosquitto_pbkdf2(text) or "99999999" in text


def test_a_credential_shows_no_password() -> None:
    for credential in (
        make_device_credential("daaaaaaaaaaaaaaaa", PASSWORD),
        make_gateway_credential("gaaaaaaaaaaaaaaaa", PASSWORD),
    ):
        assert PASSWORD not in repr(credential)
        assert verify_bcrypt(PASSWORD, credential.bcrypt)
        assert verify_mosquitto_pbkdf2(PASSWORD, credential.pbkdf2_sha512)


def test_the_backend_can_import_it_without_the_gateways_packages() -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; import {credentials.__name__};"
        "print(sorted({'gmqtt', 'structlog', 'httpx', 'surge_cli'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_hash_is_pbkdf2_with_sha512() -> None:
    expected = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), SALT, 101, 64)
    assert make_mosquitto_pbkdf2(PASSWORD, SALT).endswith(credentials._base64(expected))
