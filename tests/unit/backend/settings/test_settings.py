"""Settings: the example file is complete and right, and wrong settings say what, where and what to do."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from surge_backend.settings import ENV_PREFIX, Settings, read_settings, store_settings
from surge_host.errors import UserError
from surge_host.settings_loader import known_settings

EXAMPLE = Path(__file__).parents[4] / "backend" / "backend.example.toml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "backend.toml"
    path.write_text(text)
    return path


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    return read_settings(write(tmp_path, text), environ)


def test_example_gives_the_defaults() -> None:
    example = read_settings(EXAMPLE, {})
    defaults = Settings()
    for section in dataclasses.fields(Settings):
        if section.name != "storage":
            assert getattr(example, section.name) == getattr(defaults, section.name)
    assert example.storage.data_dir == EXAMPLE.parent / defaults.storage.data_dir
    assert example.storage.busy_timeout_ms == defaults.storage.busy_timeout_ms


def test_example_names_every_setting_and_no_other() -> None:
    shown = tomllib.loads(re.sub(r"(?m)^#: ", "", EXAMPLE.read_text()))
    assert {(section, key) for section, table in shown.items() for key in table} == {
        (known.section, known.key) for known in known_settings(Settings)
    }


def test_empty_file_is_enough(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.server.host == "127.0.0.1"
    assert settings.storage.url.startswith("sqlite:///")
    assert settings.storage.master_key_path.name == "master.key"


def test_environment_overrides(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "[server]\nport = 1",
        **{f"{ENV_PREFIX}_SERVER_PORT": "9000", f"{ENV_PREFIX}_LIMITS_PUBLIC_PER_SECOND": "2.5"},
    )
    assert settings.server.port == 9000
    assert settings.limits.public_per_second == 2.5


@pytest.mark.parametrize(
    ("text", "where", "remedy"),
    [
        ("[server]\nprot = 1", "[server] prot", "port"),
        ("[sever]\nport = 1", "[sever]", "server"),
        ("[server]\nport = 70000", "port", "65535"),
        ("[server]\nport = '80'", "port", "whole number"),
        ("[server]\ntls_certificate = 'a.pem'", "tls_key", "both"),
        ("[server]\nhost = '0.0.0.0'", "host", "allow_plain_http"),
        ("[server]\nhost = 'surge.example'", "host", "tls_certificate"),
        ("[telemetry]\nkind = 'influx1'", "[telemetry]", "right"),
        ("[telemetry]\ntoken = 'abc'", "token", "token_file"),
        ("[log]\nlevel = 'loud'", "level", "'info'"),
        ("server = 1", "backend.toml", "[server]"),
        ("[server", "backend.toml", "line"),
    ],
)
def test_wrong_settings_say_where_and_what_to_do(tmp_path: Path, text: str, where: str, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert where in caught.value.where
    assert remedy in caught.value.remedy


def test_unknown_variable_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, "", **{f"{ENV_PREFIX}_SERVER_PROT": "1"})
    assert f"{ENV_PREFIX}_SERVER_PORT" in caught.value.remedy


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such settings file"):
        read_settings(tmp_path / "missing.toml", {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_tls(tmp_path: Path, host: str) -> None:
    assert read(tmp_path, f"[server]\nhost = '{host}'").server.is_loopback


def test_plain_http_elsewhere_has_to_be_said(tmp_path: Path) -> None:
    settings = read(tmp_path, "[server]\nhost = '0.0.0.0'\nallow_plain_http = true")
    assert not settings.server.is_loopback
    assert not settings.server.has_tls


def test_tls_files_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path, "[server]\ntls_certificate = 'a.pem'\ntls_key = 'b.pem'")


@pytest.mark.threat(25)
def test_secrets_come_from_files_and_never_show(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql+psycopg://surge:hunter2@db/surge\n")
    settings = read(tmp_path, "[storage]\ndatabase_url_file = 'url'")
    assert settings.storage.url.startswith("postgresql")
    assert "hunter2" not in repr(settings)


def test_store_settings_take_paths_and_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    settings = read(
        tmp_path,
        "[telemetry]\nkind = 'influx2'\nurl = 'http://127.0.0.1:1'\norg = 'o'\nbucket = 'b'\n"
        "token_file = 'token'",
    )
    made = store_settings(settings)
    assert (made.kind, made.org, made.token) == ("influx2", "o", "s3cret")
    assert "s3cret" not in repr(made)
    assert store_settings(read(tmp_path, "")).path == str(tmp_path / "surge-data" / "telemetry.duckdb")
