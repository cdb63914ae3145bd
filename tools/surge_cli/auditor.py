"""What ``surge export`` and ``surge verify`` share: reading a token.

Rule kept: a token is in a file, never an argument, and never shown.
"""

from pathlib import Path

from surge_backend.registry.tokens import TOKEN_LEN_MAX, is_bearer_token
from surge_host.errors import UserError


def read_token(path: Path) -> str:
    """The token in ``path``. Raises UserError."""
    try:
        with path.open("rb") as file:
            text = file.read(TOKEN_LEN_MAX + 2).decode("ascii", "replace").strip()
    except OSError as error:
        raise UserError(
            f"the token can't be read: {error.strerror}", str(path), "give the file that holds it"
        ) from error
    if not is_bearer_token(text):
        remedy = "make one: surge backend token --role auditor --out FILE"
        raise UserError("the file holds no token", str(path), remedy)
    return text
