"""`surge gateway init`: makes the gateway's key and enrols it.

Place in the flow: once, before the first start. Rules kept: the key is on disk before the backend hears of
it, so a lost answer is made good by running it again with the same enrolment token; an enrolled gateway is
never overwritten; the identity is written last, so half an enrolment is none.
"""

from collections.abc import Callable
from pathlib import Path

from surge_gateway.backend_client import (
    AnswerInvalid,
    BackendClient,
    Enrolled,
    Refusal,
    Unavailable,
    decode_base64url,
    encode_base64url,
)
from surge_gateway.files import Files, write_atomically, write_new
from surge_gateway.identity import (
    IDENTITY_NAME,
    KEY_NAME,
    TOKEN_NAME,
    Identity,
    encode_identity,
    read_identity,
    read_key,
)
from surge_host.errors import UserError
from surge_wire.ed25519 import public_key
from surge_wire.limits import SECRET_LEN

MINIMAL_SETTINGS = """\
# Made by `surge gateway init`; gateway.example.toml in Surge's sources shows every setting.

[gateway]
state_dir = "gateway-state"

[backend]
url = "{url}"
"""


def write_minimal_settings(path: Path, url: str) -> None:
    """A settings file to start from, where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(MINIMAL_SETTINGS.format(url=url.replace("\\", "").replace('"', "")))
    except OSError as error:
        if not isinstance(error, FileExistsError):
            path.unlink(missing_ok=True)  # half of it would be read as all of it
        raise UserError(
            f"settings file can't be made: {error.strerror}", str(path), "free space there, or name another"
        ) from error


async def enrol(
    client: BackendClient,
    files: Files,
    state_dir: Path,
    random: Callable[[int], bytes],
    enrolment_token: str,
    name: str,
    backend_url: str,
) -> Identity:
    """Make key and identity in `state_dir`. Raises UserError, IdentityError, OSError."""
    existing = read_identity(files, state_dir)
    if existing is not None:
        raise UserError(
            f"this gateway is enrolled already, as {existing.gateway_id}",
            str(state_dir / IDENTITY_NAME),
            "start it with `surge gateway`, or give another state_dir to enrol another gateway",
        )
    files.make_folder(state_dir)
    seed = read_key(files, state_dir)
    if seed is None:
        write_new(files, state_dir / KEY_NAME, encode_base64url(random(SECRET_LEN)).encode() + b"\n")
        seed = read_key(files, state_dir)
    if seed is None:
        raise UserError("the key is gone just after it was made", str(state_dir), "check that disk")
    key = public_key(decode_base64url(seed.reveal()))
    answer = await _enrol(client, enrolment_token, key, name)
    write_atomically(files, state_dir / TOKEN_NAME, answer.token.encode() + b"\n")
    identity = encode_identity(answer.gateway_id, key, answer.log_public_key, answer.log_id, backend_url)
    write_atomically(files, state_dir / IDENTITY_NAME, identity)
    enrolled = read_identity(files, state_dir)
    if enrolled is None:
        raise UserError("the identity is gone just after it was made", str(state_dir), "check that disk")
    return enrolled


async def _enrol(client: BackendClient, token: str, key: bytes, name: str) -> Enrolled:
    try:
        return await client.enrol(token, key, name)
    except Unavailable as error:
        raise UserError(
            f"the backend does not answer: {error}",
            "[backend] url",
            "start the backend or put the url right; then run this again, the key is kept",
        ) from error
    except Refusal as error:
        raise UserError(
            f"the backend refused: {error}",
            "enrolment token",
            error.remedy or "ask for a new enrolment token for a gateway, and run this again",
        ) from error
    except AnswerInvalid as error:
        raise UserError(
            f"this is not a Surge backend: {error}", "[backend] url", "put the backend's address there"
        ) from error
