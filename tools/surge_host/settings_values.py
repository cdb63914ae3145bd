"""The values that settings take: from TOML or an environment variable to the declared type, within bounds.

Place in the flow: under `settings_loader`, which knows sections and keys. Rule kept: what can't be taken as
the declared type is an error that says what may be given instead; nothing is guessed.
"""

import dataclasses
import types
import typing
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any, Literal

from surge_host.errors import UserError

SECRET_LEN_MAX = 4096  # a longer secret file is refused


class Secret:
    """Text that no repr, log or traceback shows; `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def setting(
    default: Any = MISSING, *, minimum: float | None = None, maximum: float | None = None, help: str = ""
) -> Any:
    """A dataclass field with inclusive bounds (numbers only); `help` says what happens at the limit."""
    return dataclasses.field(default=default, metadata={"minimum": minimum, "maximum": maximum, "help": help})


def _alternatives(declared: Any) -> tuple[Any, ...]:
    """The members of `X | None` or `Union`, or the type alone."""
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return typing.get_args(declared)
    return (declared,)


def is_secret(declared: Any) -> bool:
    """Whether a declared type is `Secret` or `Secret | None`."""
    return Secret in _alternatives(declared)


def from_text(text: str, declared: Any, where: str) -> Any:
    """An environment variable's text as the TOML value it stands for."""
    kinds = [kind for kind in _alternatives(declared) if kind is not type(None)]
    for kind in kinds:
        if typing.get_origin(kind) is tuple:
            return [part.strip() for part in text.split(",") if part.strip()]
        try:
            if kind is bool:
                return {"true": True, "false": False}[text.lower()]
            if kind is int:
                return int(text)
            if kind is float:
                return float(text)
        except (KeyError, ValueError):
            raise _wrong_type(text, declared, where) from None
    return text


def convert(raw: Any, declared: Any, where: str) -> Any:
    """A TOML value as the declared type. TOML has no null: leaving a key out gives its default."""
    for kind in _alternatives(declared):
        origin = typing.get_origin(kind)
        if origin is tuple and isinstance(raw, list):
            item_kind = typing.get_args(kind)[0]
            return tuple(convert(item, item_kind, where) for item in raw)
        if origin is Literal and raw in typing.get_args(kind):
            return raw
        if kind is Path and isinstance(raw, str):
            return Path(raw)
        if kind is float and type(raw) is int:
            return float(raw)
        if isinstance(kind, type) and origin is None and type(raw) is kind:
            return raw
    raise _wrong_type(raw, declared, where)


def _wrong_type(raw: Any, declared: Any, where: str) -> UserError:
    names: list[str] = []
    for kind in _alternatives(declared):
        if typing.get_origin(kind) is Literal:
            names.extend(repr(value) for value in typing.get_args(kind))
        elif typing.get_origin(kind) is tuple:
            names.append("a list")
        elif kind is not type(None):
            names.append(_KIND_NAMES.get(kind, kind.__name__))
    return UserError(f"{raw!r} is not what this setting takes", where, "give " + " or ".join(names))


_KIND_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}


def check_bounds(value: Any, field: Field[Any], where: str) -> None:
    """UserError where `value` is outside the bounds that the field declares."""
    minimum = field.metadata.get("minimum")
    maximum = field.metadata.get("maximum")
    if minimum is not None and value < minimum:
        raise UserError(f"{value} is too small", where, f"give {minimum} or more")
    if maximum is not None and value > maximum:
        raise UserError(f"{value} is too large", where, f"give {maximum} or less")


def read_secret(path: Path, where: str) -> Secret:
    """The secret in the file at `path`, without white space around it."""
    try:
        text = path.read_bytes()[: SECRET_LEN_MAX + 1].decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"secret file can't be read: {error}", f"{where} = {path}", "check path and owner"
        ) from error
    if not 0 < len(text) <= SECRET_LEN_MAX:
        raise UserError(
            "secret file is empty or too long", f"{where} = {path}", "write the secret alone into it"
        )
    return Secret(text)
