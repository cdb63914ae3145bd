"""`surge gateway init` and `mosquitto-files`: enrolled once, safe to repeat, nothing readable by others."""

import json
from pathlib import Path

import pytest
from gateway_http import ENROLMENT_TOKEN, GATEWAY_ID, TOKEN, TestBackend, running_backend
from gateway_reports import make_device

from surge_cli.main import main
from surge_gateway.backend_client import DeviceEntry
from surge_gateway.checked_file import open_check_line
from surge_gateway.files import RealFiles
from surge_gateway.identity import read_identity
from surge_gateway.registry import encode_registry
from surge_host.mqtt_credentials import make_device_credential


def init(folder: Path, backend: TestBackend, token: str = ENROLMENT_TOKEN) -> int:
    (folder / "token").write_text(token + "\n")
    config = str(folder / "gateway.toml")
    token_file = str(folder / "token")
    return main(
        [
            "gateway",
            "init",
            "--config",
            config,
            "--backend",
            backend.url,
            "--enrolment-token-file",
            token_file,
        ]
    )


def test_enrols_and_keeps_everything_private(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_backend() as backend:
        assert init(tmp_path, backend) == 0
        identity = read_identity(RealFiles(), tmp_path / "gateway-state")
        assert identity is not None
        assert identity.gateway_id == GATEWAY_ID
        assert identity.token.reveal() == TOKEN
        assert identity.log_public_key == backend.log.public_key
    assert GATEWAY_ID in capsys.readouterr().out
    state = tmp_path / "gateway-state"
    assert state.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in state.iterdir()} == {0o600}
    assert TOKEN not in repr(identity)


@pytest.mark.threat(25)
@pytest.mark.parametrize("name", ["gateway.key", "api.token", "mqtt.password"])
def test_a_secret_that_others_can_read_keeps_it_from_starting(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_backend() as backend:
        assert init(tmp_path, backend) == 0
        path = tmp_path / "gateway-state" / name
        path.touch()
        path.chmod(0o640)
        assert main(["gateway", "--config", str(tmp_path / "gateway.toml")]) == 2
    assert f"chmod 600 {path}" in capsys.readouterr().err


def test_a_lost_answer_is_made_good_with_the_same_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_backend() as backend:
        backend.lose_enrolment_answer = True
        assert init(tmp_path, backend) == 2
        assert "the key is kept" in capsys.readouterr().err
        key = backend.enrolled_key
        assert init(tmp_path, backend) == 0
        assert backend.enrolled_key == key


@pytest.mark.threat(2)
def test_an_enrolled_gateway_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_backend() as backend:
        init(tmp_path, backend)
        before = {path.name: path.read_bytes() for path in (tmp_path / "gateway-state").iterdir()}
        assert init(tmp_path, backend) == 2
    assert "enrolled already" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "gateway-state").iterdir()} == before


@pytest.mark.threat(2)
def test_a_used_token_with_another_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_backend() as backend:
        init(tmp_path, backend)
        other = tmp_path / "other"
        other.mkdir()
        assert init(other, backend) == 2
        assert "another key" in capsys.readouterr().err


def test_a_backend_other_than_the_settings_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_backend() as backend:
        init(tmp_path, backend)
        backend.url = "http://127.0.0.1:1"
        assert init(tmp_path, backend) == 2
    assert "the settings name another backend" in capsys.readouterr().err


def test_wrong_token_and_no_backend_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_backend() as backend:
        assert init(tmp_path, backend, "wrong") == 2
        assert "refused" in capsys.readouterr().err
    assert init(tmp_path, backend) == 2
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gateway.key", "api.token", "identity"])
def test_a_damaged_or_missing_identity_is_told(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_backend() as backend:
        init(tmp_path, backend)
    path = tmp_path / "gateway-state" / name
    path.write_text("?")
    if name == "api.token":
        path.unlink()
    assert main(["gateway", "--config", str(tmp_path / "gateway.toml")]) == 2
    assert name in capsys.readouterr().err


def test_an_unenrolled_gateway_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.toml").write_text('[backend]\nurl = "https://backend.example"\n')
    assert main(["gateway", "--config", str(tmp_path / "gateway.toml")]) == 2
    assert "surge gateway init" in capsys.readouterr().err


def test_mosquitto_files_hold_the_cached_devices_without_a_backend(tmp_path: Path) -> None:
    device = make_device()
    credential = make_device_credential(device.device_id, "p" * 43)
    with running_backend() as backend:
        init(tmp_path, backend)
    entry = DeviceEntry(device.device_id, "active", credential.bcrypt, credential.pbkdf2_sha512, 1)
    (tmp_path / "gateway-state" / "registry.cache").write_bytes(encode_registry(1, [entry]))  # no backend now
    command = [
        "gateway",
        "mosquitto-files",
        "--config",
        str(tmp_path / "gateway.toml"),
        "--out",
        str(tmp_path / "m"),
    ]
    assert main(command) == 0
    passwords = (tmp_path / "m" / "passwords").read_text()
    assert f"{device.device_id}:{credential.pbkdf2_sha512}" in passwords
    assert GATEWAY_ID in passwords
    password = (tmp_path / "gateway-state" / "mqtt.password").read_text()
    assert main(command) == 0
    assert (tmp_path / "gateway-state" / "mqtt.password").read_text() == password


def test_identity_file_names_the_backend(tmp_path: Path) -> None:
    with running_backend() as backend:
        init(tmp_path, backend)
        document = json.loads(open_check_line((tmp_path / "gateway-state" / "identity").read_bytes()))
        assert document["backend_url"] == backend.url
