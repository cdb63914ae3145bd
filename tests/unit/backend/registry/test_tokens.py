"""Tokens: their shape, and that only hashes are kept."""

import hashlib

import pytest

from surge_backend.registry.tokens import (
    TOKEN_LEN_MAX,
    Role,
    hash_token,
    is_bearer_token,
    is_enrolment_token,
    make_bearer_token,
    make_enrolment_token,
)


@pytest.mark.parametrize("role", list(Role))
def test_bearer_token_shape(role: Role) -> None:
    token = make_bearer_token(role)
    prefix, name, random = token.split("_", 2)
    assert (prefix, name, len(random)) == ("surge", role.value, 43)
    assert len(token) <= TOKEN_LEN_MAX
    assert is_bearer_token(token)
    assert not is_enrolment_token(token)
    assert make_bearer_token(role) != token
    assert hash_token(token) == hashlib.sha256(token.encode()).digest()


def test_enrolment_token_shape() -> None:
    token = make_enrolment_token()
    assert is_enrolment_token(token)
    assert not is_bearer_token(token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "surge_owner_",
        "surge_owner_" + "A" * 42,
        "surge_owner_" + "A" * 44,
        "surge_root_" + "A" * 43,
        "surge_owner_" + "A" * 42 + "!",
        "surge_owner_" + "A" * 43 + "\n",
        "SURGE_OWNER_" + "A" * 43,
        "surge_owner_" + "Ä" * 43,
        "x" * 1_000_000,
    ],
)
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not is_bearer_token(text)
    assert not is_enrolment_token(text)
