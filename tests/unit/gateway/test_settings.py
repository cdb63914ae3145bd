"""The settings file: the example, the defaults, and what a wrong one is told."""

import re
from dataclasses import MISSING
from pathlib import Path

import pytest

from surge_gateway.http_client import make_http
from surge_gateway.settings import ENV_PREFIX, Settings
from surge_host.errors import UserError
from surge_host.settings_loader import known_settings, load_settings

EXAMPLE = Path(__file__).parents[3] / "gateway" / "gateway.example.toml"


def load(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "gateway.toml"
    path.write_text(text)
    return load_settings(Settings, path, env_prefix=ENV_PREFIX, environ=environ)


def test_the_example_shows_every_setting_with_its_default() -> None:
    text = EXAMPLE.read_text()
    sections = dict(re.findall(r"^\[(\w+)\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted({known.section for known in known_settings(Settings)})
    for known in known_settings(Settings):
        assert re.search(rf"^(# )?{known.key} = ", sections[known.section], re.MULTILINE), known.key
        assert known.help in sections[known.section].replace("\n# ", " "), known.key
    settings = load_settings(Settings, EXAMPLE, env_prefix=ENV_PREFIX, environ={})
    for known in known_settings(Settings):
        value = getattr(
            getattr(settings, known.section), known.key.removesuffix("_file") if known.secret else known.key
        )
        if known.default is not MISSING:
            expected = EXAMPLE.parent / known.default if isinstance(known.default, Path) else known.default
            assert value == expected, known.key


def test_every_limit_says_what_happens_at_it() -> None:
    silent = [
        known.key
        for known in known_settings(Settings)
        if known.key.endswith(("_max", "_ms", "_s")) and not known.help
    ]
    assert silent == []


def test_only_the_url_has_to_be_given(tmp_path: Path) -> None:
    settings = load(tmp_path, '[backend]\nurl = "https://backend.example"\n')
    assert settings.batch.reports_max == 2_000
    assert settings.gateway.state_dir == tmp_path / "gateway-state"


def test_environment_overrides(tmp_path: Path) -> None:
    settings = load(
        tmp_path, "", SURGE_GATEWAY_BACKEND_URL="https://x.example", SURGE_GATEWAY_BATCH_AGE_MS="7"
    )
    assert (settings.backend.url, settings.batch.age_ms) == ("https://x.example", 7)


URL = '[backend]\nurl = "https://backend.example"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"a setting is missing .*\[backend\] url"),
        (URL + "[bach]\nage_ms = 1\n", "unknown section.*did you mean batch"),
        (URL + "[batch]\nage = 1\n", "unknown setting.*did you mean age_ms"),
        (URL + '[batch]\nage_ms = "soon"\n', "'soon' is not what this setting takes.*a whole number"),
        (URL + "[batch]\nage_ms = true\n", "a whole number"),
        (URL + "[batch]\nage_ms = 0\n", "0 is too small.*give 1 or more"),
        (URL + "[batch]\nreports_max = 10_001\n", "10001 is too large.*give 10000 or less"),
        (URL + '[gateway]\nbroker = "mosquitto"\n', "give 'embedded' or 'external'"),
        (
            URL + '[mqtt]\npassword = "hunter2"\n',
            "a secret doesn't belong in the settings file.*password_file",
        ),
        (URL + '[mqtt]\npassword_file = "missing"\n', "secret file can't be read"),
        ('[backend]\nurl = "ftp://x"\n', "not http:// or https://"),
        ("batch = 1\n" + URL, "batch is a section"),
        ("[backend\n", "settings file is not TOML"),
    ],
)
def test_a_wrong_file_is_told_what_where_and_how(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, text)
    assert caught.value.remedy
    assert "gateway.toml" in caught.value.where


def test_wrong_variables_are_told_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean SURGE_GATEWAY_BATCH_AGE_MS"):
        load(tmp_path, URL, SURGE_GATEWAY_BATCH_AGE="7")
    with pytest.raises(UserError, match="variable SURGE_GATEWAY_BATCH_AGE_MS"):
        load(tmp_path, URL, SURGE_GATEWAY_BATCH_AGE_MS="soon")


def test_secrets_come_from_files_and_do_not_show(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    settings = load(tmp_path, URL + '[mqtt]\npassword_file = "password"\n')
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.reveal() == "hunter2"
    assert "hunter2" not in repr(settings)


async def test_a_token_does_not_travel_in_the_clear_by_accident(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in the clear"):
        make_http(load(tmp_path, '[backend]\nurl = "http://backend.example"\n').backend)
    for text in (
        'url = "http://127.0.0.1:1"',
        'url = "http://[::1]:1"',
        'url = "http://x"\nplain_http = true',
    ):
        await make_http(load(tmp_path, f"[backend]\n{text}\n").backend).aclose()
