"""Mosquitto's files: the grants, the modes, and what stays the operator's."""

import os
import stat
from pathlib import Path

import pytest

from surge_gateway.broker.errors import BrokerError
from surge_gateway.broker.mosquitto_files import (
    render_acl_file,
    render_example_conf,
    render_password_file,
    write_mosquitto_files,
)
from surge_host.mqtt_credentials import make_device_credential, make_gateway_credential

GATEWAY = make_gateway_credential("gaaaaaaaaaaaaaaaa", "g" * 43)
DEVICE = make_device_credential("daaaaaaaaaaaaaaaa", "a" * 43)
OTHER = make_device_credential("dbbbbbbbbbbbbbbbb", "b" * 43)


def test_the_acl_lists_each_users_grants() -> None:
    assert render_acl_file(GATEWAY, [DEVICE]) == (
        "user gaaaaaaaaaaaaaaaa\n"
        "topic read surge/1/+/report\n"
        "topic read surge/1/+/state\n"
        "topic write surge/1/+/ack\n"
        "topic write surge/1/+/command\n"
        "\n"
        "user daaaaaaaaaaaaaaaa\n"
        "topic write surge/1/daaaaaaaaaaaaaaaa/report\n"
        "topic write surge/1/daaaaaaaaaaaaaaaa/state\n"
        "topic read surge/1/daaaaaaaaaaaaaaaa/ack\n"
        "topic read surge/1/daaaaaaaaaaaaaaaa/command\n"
    )


def test_the_password_file_has_a_line_for_each_user() -> None:
    assert render_password_file(GATEWAY, [DEVICE, OTHER]).splitlines() == [
        f"gaaaaaaaaaaaaaaaa:{GATEWAY.pbkdf2_sha512}",
        f"daaaaaaaaaaaaaaaa:{DEVICE.pbkdf2_sha512}",
        f"dbbbbbbbbbbbbbbbb:{OTHER.pbkdf2_sha512}",
    ]


def test_files_are_private_and_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "mosquitto"
    files = write_mosquitto_files(folder, [DEVICE], GATEWAY)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (files.password_file, files.acl_file, files.example_conf):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = os.stat(files.acl_file).st_ino
    write_mosquitto_files(folder, [DEVICE, OTHER], GATEWAY)
    assert os.stat(files.acl_file).st_ino != before  # another file under the same name: never half written
    assert "dbbbbbbbbbbbbbbbb" in files.acl_file.read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["acl", "mosquitto.conf", "passwords"]


def test_the_operators_configuration_is_left_alone(tmp_path: Path) -> None:
    files = write_mosquitto_files(tmp_path, [DEVICE], GATEWAY, port=1999)
    assert "listener 1999 127.0.0.1" in files.example_conf.read_text()
    files.example_conf.write_text("# mine\n")
    write_mosquitto_files(tmp_path, [DEVICE], GATEWAY)
    assert files.example_conf.read_text() == "# mine\n"


def test_a_refused_list_changes_nothing(tmp_path: Path) -> None:
    files = write_mosquitto_files(tmp_path, [DEVICE], GATEWAY)
    before = files.password_file.read_bytes(), files.acl_file.read_bytes()
    with pytest.raises(BrokerError, match="given twice"):
        write_mosquitto_files(tmp_path, [OTHER, OTHER], GATEWAY)
    assert (files.password_file.read_bytes(), files.acl_file.read_bytes()) == before


def test_the_example_denies_the_anonymous_and_bounds_queues(tmp_path: Path) -> None:
    conf = render_example_conf(tmp_path, host="::1", port=1883, payload_bytes_max=16384)
    lines = conf.splitlines()
    assert "allow_anonymous false" in lines
    assert "use_username_as_clientid true" in lines
    assert "max_packet_size 16640" in lines
    assert any(line.startswith("max_queued_messages ") for line in lines)
    assert any(line.startswith("max_inflight_messages ") for line in lines)


@pytest.mark.parametrize("name", ["line\nallow_anonymous true", "trailing ", "nul\0"])
def test_a_folder_cant_add_directives(name: str) -> None:
    with pytest.raises(BrokerError, match="can't be written into mosquitto"):
        render_example_conf(Path("/x", name), host="127.0.0.1", port=1883, payload_bytes_max=1)


def test_a_folder_that_cant_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="can't write") as caught:
        write_mosquitto_files(tmp_path / "file" / "below", [DEVICE], GATEWAY)
    assert str(tmp_path) in caught.value.where
