"""nats-server's configuration: the grants, the escaping, and that the real server reads it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from surge_gateway.broker.errors import BrokerError
from surge_gateway.broker.nats_config import render_nats_config, to_subject
from surge_gateway.broker.server_process import find_server
from surge_gateway.broker.settings import BrokerSettings
from surge_gateway.broker.users import DEVICES_MAX
from surge_host.mqtt_credentials import (
    DeviceCredential,
    GatewayCredential,
    make_device_credential,
    make_gateway_credential,
)
from surge_wire.ids import DEVICE, make_id

GATEWAY = make_gateway_credential("gaaaaaaaaaaaaaaaa", "g" * 43)
DEVICE_CREDENTIAL = make_device_credential("daaaaaaaaaaaaaaaa", "a" * 43)


def devices(count: int) -> list[DeviceCredential]:
    return [
        DeviceCredential(
            make_id(DEVICE, number.to_bytes(10, "big")),
            DEVICE_CREDENTIAL.bcrypt,
            DEVICE_CREDENTIAL.pbkdf2_sha512,
        )
        for number in range(count)
    ]


def rendered(settings: BrokerSettings | None = None, count: int = 1) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(
        render_nats_config(settings or BrokerSettings(), GATEWAY, devices(count))
    )
    return config


def check(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the real server says of it."""
    path = folder / "checked.conf"
    path.write_text(text, encoding="utf-8")
    return subprocess.run([find_server(None), "-t", "-c", path], capture_output=True, text=True)


def test_a_device_gets_its_four_subjects_and_no_more() -> None:
    user = rendered()["authorization"]["users"][1]
    assert user == {
        "user": "daaaaaaaaaaaaaaaa",
        "password": DEVICE_CREDENTIAL.bcrypt,
        "permissions": {
            "publish": ["surge.1.daaaaaaaaaaaaaaaa.report", "surge.1.daaaaaaaaaaaaaaaa.state"],
            "subscribe": ["surge.1.daaaaaaaaaaaaaaaa.ack", "surge.1.daaaaaaaaaaaaaaaa.command"],
        },
        "allowed_connection_types": ["MQTT"],
    }


def test_the_gateway_gets_the_other_ends() -> None:
    user = rendered()["authorization"]["users"][0]
    assert user["user"] == GATEWAY.gateway_id
    assert user["permissions"] == {
        "publish": ["surge.1.*.ack", "surge.1.*.command"],
        "subscribe": ["surge.1.*.report", "surge.1.*.state"],
    }
    assert user["allowed_connection_types"] == ["MQTT"]


def test_nobody_else_gets_anything() -> None:
    config = rendered()
    assert (config["host"], config["port"]) == ("127.0.0.1", -1)  # no choice: the server wants this port
    assert not {"http", "https", "monitor_port", "system_account", "accounts", "no_auth_user"} & set(config)
    assert "no_auth_user" not in config["mqtt"]
    assert all("permissions" in user for user in config["authorization"]["users"])


def test_the_limits_are_the_settings() -> None:
    config = rendered(
        BrokerSettings(payload_bytes_max=5000, connections_max=7, file_store_bytes_max=20 << 20)
    )
    assert config["max_payload"] == 5000 + 512
    assert config["max_connections"] == 7
    assert config["jetstream"]["max_file_store"] == 20 << 20
    assert config["jetstream"]["limits"]["default_max_consumers"] >= config["max_connections"]


@pytest.mark.parametrize(
    "name", ["plain", "with space", 'quo"te', "back\\slash", "$HOME", "ümlaut", "include x", "a#b"]
)
def test_the_server_reads_any_folder_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    text = render_nats_config(BrokerSettings(folder=folder), GATEWAY, devices(3))
    done = check(text, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(text)["jetstream"]["store_dir"] == str(folder)


@pytest.mark.parametrize("name", ["line\nbreak", "tab\t", "nul\x00", "del\x7f", "\udcff"])
def test_a_name_that_cant_be_quoted_is_refused(name: str) -> None:
    with pytest.raises(BrokerError, match="not printable"):
        render_nats_config(BrokerSettings(folder=Path("/x", name)), GATEWAY, [])
    with pytest.raises(BrokerError, match="not printable"):
        render_nats_config(BrokerSettings(host=name), GATEWAY, [])


def test_tls_files_are_named(tmp_path: Path) -> None:
    config = rendered(BrokerSettings(tls_certificate=tmp_path / "c", tls_key=tmp_path / "k"))
    assert config["mqtt"]["tls"] == {"cert_file": str(tmp_path / "c"), "key_file": str(tmp_path / "k")}
    with pytest.raises(ValueError, match="belong together"):
        BrokerSettings(tls_key=tmp_path / "k")


def test_ten_thousand_devices_are_one_configuration(tmp_path: Path) -> None:
    text = render_nats_config(BrokerSettings(folder=tmp_path), GATEWAY, devices(10_000))
    assert len(json.loads(text)["authorization"]["users"]) == 10_001
    done = check(text, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_device_given_twice_is_refused() -> None:
    with pytest.raises(BrokerError, match="device given twice"):
        render_nats_config(BrokerSettings(), GATEWAY, devices(2) + devices(1))


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(BrokerError, match=f"it takes {DEVICES_MAX}"):
        render_nats_config(BrokerSettings(), GATEWAY, [DEVICE_CREDENTIAL] * (DEVICES_MAX + 1))


def test_a_gateway_must_be_one() -> None:
    wrong = GatewayCredential("daaaaaaaaaaaaaaaa", GATEWAY.bcrypt, GATEWAY.pbkdf2_sha512)
    with pytest.raises(BrokerError, match="not a gateway id"):
        render_nats_config(BrokerSettings(), wrong, [])


def test_a_password_in_a_verifiers_place_is_refused_and_not_shown() -> None:
    for wrong in (
        DeviceCredential("daaaaaaaaaaaaaaaa", "hunter2", DEVICE_CREDENTIAL.pbkdf2_sha512),
        DeviceCredential("daaaaaaaaaaaaaaaa", DEVICE_CREDENTIAL.bcrypt, "hunter2"),
    ):
        with pytest.raises(BrokerError, match="verifier") as caught:
            render_nats_config(BrokerSettings(), GATEWAY, [wrong])
        assert "hunter2" not in str(caught.value)


def test_topics_become_subjects() -> None:
    assert to_subject("surge/1/+/report") == "surge.1.*.report"
