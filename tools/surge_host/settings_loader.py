"""Settings: a frozen dataclass of sections, filled from a TOML file, then from environment variables.

Place in the flow: called by the `cli` modules of gateway and backend before anything else is built. Does not
know any setting: the dataclasses say names, types, defaults and bounds. Reads the TOML file and secret files,
nothing else.

Rules kept: an unknown section, key or variable is an error that names the nearest known one; a wrong type or
a value out of bounds is an error that names file, section and key; a secret is never written in the TOML file
itself but in a file of its own (`<key>_file`), and never shows in a repr.

    @dataclass(frozen=True)
    class Uplink:
        url: str                                             # no default: must be given
        timeout_ms: int = setting(10_000, minimum=100, maximum=600_000)
        token: Secret | None = None                          # `token_file = "token.txt"`

    @dataclass(frozen=True)
    class Settings:
        uplink: Uplink

    load_settings(Settings, Path("gateway.toml"), env_prefix="SURGE_GATEWAY", environ=os.environ)

`SURGE_GATEWAY_UPLINK_TIMEOUT_MS=5000` overrides; lists are separated by commas;
`SURGE_GATEWAY_UPLINK_TOKEN_FILE` gives a secret's file and `SURGE_GATEWAY_UPLINK_TOKEN` the secret. Relative
paths in the file are relative to its folder. A section's `__post_init__` may raise ValueError for what can
only be seen across settings.
"""

import dataclasses
import difflib
import os
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass
from pathlib import Path
from typing import Any, TypeVar

from surge_host.errors import UserError
from surge_host.settings_values import (
    Secret,
    check_bounds,
    convert,
    from_text,
    is_secret,
    read_secret,
    setting,
)

__all__ = ("KnownSetting", "Secret", "build_settings", "known_settings", "load_settings", "setting")

Settings = TypeVar("Settings")

SETTINGS_FILE_LEN_MAX = 1024 * 1024  # a longer file is refused: it is not a settings file

_FILE_SUFFIX = "_file"


@dataclass(frozen=True)
class KnownSetting:
    """One setting as the dataclasses declare it. `default` is MISSING where it must be given."""

    section: str
    key: str  # as written in the TOML file: a secret's key ends in `_file`
    default: Any
    help: str
    secret: bool


def known_settings(kind: type[Any]) -> list[KnownSetting]:
    """Every setting of a settings dataclass, in order: for tests of the example file, and docs."""
    known = []
    for section, section_kind in _sections(kind).items():
        for field, declared in _fields(section_kind):
            secret = is_secret(declared)
            default = field.default if field.default_factory is MISSING else field.default_factory()
            key = field.name + _FILE_SUFFIX if secret else field.name
            known.append(KnownSetting(section, key, default, field.metadata.get("help", ""), secret))
    return known


def load_settings(
    kind: type[Settings], path: Path, *, env_prefix: str, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Fill `kind` (a dataclass whose fields are dataclasses) from `path` and `environ`. Raises UserError."""
    return build_settings(
        kind,
        _read_toml(path),
        source=str(path),
        folder=path.absolute().parent,
        env_prefix=env_prefix,
        environ=environ,
    )


def build_settings(
    kind: type[Settings],
    document: Mapping[str, Any],
    *,
    source: str,
    folder: Path,
    env_prefix: str,
    environ: Mapping[str, str],
) -> Settings:
    """As `load_settings`, from a TOML document that is already read; `source` names it in errors."""
    sections = _sections(kind)
    for name, value in document.items():
        if name not in sections:
            raise _unknown("unknown section", f"{source}: [{name}]", name, sections)
        if not isinstance(value, dict):
            raise UserError(
                f"{name} is a section, not a value", source, f"write [{name}] on a line of its own"
            )
    from_environment = _environment(sections, env_prefix, environ)
    built = {
        name: _section(
            section_kind, name, document.get(name, {}), from_environment.get(name, {}), source, folder
        )
        for name, section_kind in sections.items()
    }
    return kind(**built)


def _sections(kind: type[Any]) -> dict[str, type[Any]]:
    return dict(typing.get_type_hints(kind))


def _fields(section_kind: type[Any]) -> list[tuple[Field[Any], Any]]:
    hints = typing.get_type_hints(section_kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(section_kind) if field.init]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > SETTINGS_FILE_LEN_MAX:
            raise UserError("settings file too long", str(path), "give a settings file (TOML)")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "no such settings file", str(path), "copy the example file there, or name another"
        ) from None
    except OSError as error:
        raise UserError(
            f"settings file can't be read: {error.strerror}", str(path), "check its permissions"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"settings file is not TOML: {error}", str(path), "put that line right") from error


def _keys(section_kind: type[Any]) -> dict[str, str]:
    """TOML key -> field name."""
    return {
        (field.name + _FILE_SUFFIX if is_secret(declared) else field.name): field.name
        for field, declared in _fields(section_kind)
    }


def _section(
    section_kind: type[Any],
    name: str,
    from_file: Mapping[str, Any],
    from_environment: Mapping[str, tuple[str, str]],
    source: str,
    folder: Path,
) -> Any:
    keys = _keys(section_kind)
    declared_kinds = {field.name: (field, declared) for field, declared in _fields(section_kind)}
    values: dict[str, Any] = {}
    for key, raw in from_file.items():
        where = f"{source}: [{name}] {key}"
        if key + _FILE_SUFFIX in keys and key not in keys:
            raise UserError(
                "a secret doesn't belong in the settings file",
                where,
                f"write it to a file of its own (mode 0600) and set {key}{_FILE_SUFFIX} to that file's path",
            )
        if key not in keys:
            raise _unknown("unknown setting", where, key, keys)
        field, declared = declared_kinds[keys[key]]
        if is_secret(declared):
            values[field.name] = read_secret(folder / convert(raw, str, where), where)
        else:
            value = convert(raw, declared, where)
            values[field.name] = folder / value if isinstance(value, Path) else value
            check_bounds(value, field, where)
    for field_name, (variable, text) in from_environment.items():
        field, declared = declared_kinds[field_name]
        where = f"environment variable {variable}"
        if is_secret(declared):
            values[field_name] = (
                read_secret(Path(text), where) if variable.endswith(_FILE_SUFFIX.upper()) else Secret(text)
            )
        else:
            values[field_name] = convert(from_text(text, declared, where), declared, where)
            check_bounds(values[field_name], field, where)
    for field, declared in declared_kinds.values():
        if field.name not in values and isinstance(field.default, Path):
            values[field.name] = folder / field.default
        elif field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            key = field.name + _FILE_SUFFIX if is_secret(declared) else field.name
            raise UserError(
                "a setting is missing", f"{source}: [{name}] {key}", f"add {key} = ... under [{name}]"
            )
    try:
        return section_kind(**values)
    except ValueError as error:  # from the section's own __post_init__
        raise UserError(str(error), f"{source}: [{name}]", "change one of the settings it names") from error


def _environment(
    sections: Mapping[str, type[Any]], prefix: str, environ: Mapping[str, str]
) -> dict[str, dict[str, tuple[str, str]]]:
    """section -> field name -> (variable, text), for every variable that starts with the prefix."""
    known: dict[str, tuple[str, str]] = {}
    for section, section_kind in sections.items():
        for field, declared in _fields(section_kind):
            variable = f"{prefix}_{section}_{field.name}".upper()
            known[variable] = (section, field.name)
            if is_secret(declared):
                known[variable + _FILE_SUFFIX.upper()] = (section, field.name)
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix.upper() + "_"):
            continue
        if variable not in known:
            raise _unknown("unknown setting", f"environment variable {variable}", variable, known)
        section, field_name = known[variable]
        found.setdefault(section, {})[field_name] = (variable, text)
    return found


def _unknown(what: str, where: str, name: str, known: Mapping[str, Any]) -> UserError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"did you mean {nearest[0]}?" if nearest else "known are: " + ", ".join(sorted(known))
    return UserError(what, where, remedy)
