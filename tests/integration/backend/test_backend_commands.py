"""`surge backend`'s commands: what they make, what they refuse, and that they print no secret."""

import socket
import sqlite3
import stat
from pathlib import Path

import pytest

from surge_wire import ed25519

from .conftest import Backend, bearer, encode, surge


def test_init_makes_everything_for_its_owner_alone(tmp_path: Path) -> None:
    done = surge("init", "--config", "backend.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = tmp_path / "surge-data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("master.key", "log.key", "admin.token", "surge.db"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name
    for name in ("master.key", "log.key", "admin.token"):
        assert (data / name).read_text().strip() not in done.stdout + done.stderr
    connection = sqlite3.connect(data / "surge.db")
    assert connection.execute("SELECT version FROM tariffs").fetchall() == [(1,)]
    connection.close()


def test_init_overwrites_nothing(backend: Backend) -> None:
    before = {path.name: path.read_bytes() for path in backend.data.iterdir()}
    again = surge("init", "--config", str(backend.config), cwd=backend.folder)
    assert again.returncode == 2
    assert "set up already" in again.stderr
    assert {path.name: path.read_bytes() for path in backend.data.iterdir()} == before


def test_an_init_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "database.url").write_text("sqlite:////nowhere/at/all/surge.db")
    (tmp_path / "backend.toml").write_text("[storage]\ndatabase_url_file = 'database.url'\n")
    done = surge("init", "--config", "backend.toml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "surge-data").exists()


def test_a_port_in_use_names_port_setting_and_remedy(backend: Backend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = surge("--config", str(backend.config), cwd=backend.folder, SURGE_BACKEND_SERVER_PORT=str(port))
    assert done.returncode == 2
    assert f"port {port} is in use" in done.stderr
    assert "[server]" in done.stderr
    assert "set another port" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--config", "missing.toml"), "no such settings file"),
        (("check", "--config", "missing.toml"), "no such settings file"),
        (("--config", "empty.toml"), "surge backend init"),
        (("check", "--config", "empty.toml"), "surge backend init"),
        (("explode",), "invalid choice"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "empty.toml").write_text("")
    done = surge(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_another_master_key_is_noticed_at_the_start(backend: Backend) -> None:
    backend.start()
    _, owner = backend.owner("Ada")
    backend.device(owner)
    assert backend.stop() == 0
    (backend.data / "master.key").write_text("00" * 32 + "\n")
    done = surge("--config", str(backend.config), cwd=backend.folder)
    assert done.returncode == 2
    assert "master key doesn't belong to this database" in done.stderr
    checked = surge("check", "--config", str(backend.config), cwd=backend.folder)
    assert checked.returncode == 2
    assert "master key doesn't belong to this database" in checked.stderr


def test_a_start_before_init_leaves_nothing_that_init_refuses(tmp_path: Path) -> None:
    (tmp_path / "backend.toml").write_text("")
    (tmp_path / "surge-data").mkdir(mode=0o700)
    done = surge("--config", "backend.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "surge backend init" in done.stderr
    assert surge("init", "--config", "backend.toml", cwd=tmp_path).returncode == 0


@pytest.mark.threat(25)
def test_a_key_that_others_can_read_keeps_it_from_starting(backend: Backend) -> None:
    (backend.data / "log.key").chmod(0o644)
    done = surge("--config", str(backend.config), cwd=backend.folder)
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_a_token_is_made_while_the_backend_runs_and_is_not_printed(backend: Backend) -> None:
    backend.start()
    out = backend.folder / "auditor.token"
    command = ("token", "--config", str(backend.config), "--role", "auditor", "--out", str(out))
    done = surge(*command, cwd=backend.folder)
    assert done.returncode == 0, done.stderr
    token = out.read_text().strip()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert token not in done.stdout + done.stderr
    assert backend.get("/v1/accounts", bearer(token))
    assert surge(*command, cwd=backend.folder).returncode == 2  # never overwritten
    assert out.read_text().strip() == token
    wrong = ("token", "--config", str(backend.config), "--out", "x", "--role", "owner")
    assert surge(*wrong, cwd=backend.folder).returncode == 2
    assert surge(*wrong, "--subject", "o" + "z" * 16, cwd=backend.folder).returncode == 2
    assert not (backend.folder / "x").exists()


def test_an_owner_enrols_gateway_and_device_with_tokens_made_offline(backend: Backend) -> None:
    config = ("--config", str(backend.config))
    early = surge("enrolment", *config, "--kind", "device", "--out", "early", cwd=backend.folder)
    assert early.returncode == 2
    assert "surge backend owner" in early.stderr
    assert surge("owner", *config, "--name", "", "--out", "none", cwd=backend.folder).returncode == 2
    made = surge("owner", *config, "--name", "Ada", "--out", "ada.token", cwd=backend.folder)
    assert made.returncode == 0, made.stderr
    printed = made.stdout + made.stderr
    for kind in ("gateway", "device"):
        arguments = ("enrolment", *config, "--kind", kind, "--out", f"{kind}.token")
        done = surge(*arguments, cwd=backend.folder)
        assert done.returncode == 0, done.stderr
        assert surge(*arguments, cwd=backend.folder).returncode == 2  # never overwritten
        printed += done.stdout + done.stderr
    tokens = {kind: backend.folder / f"{kind}.token" for kind in ("ada", "gateway", "device")}
    for file in tokens.values():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text().strip() not in printed
    words = {kind: bearer(file.read_text().strip()) for kind, file in tokens.items()}
    backend.start()
    device = {"secret": encode(b"d" * 32), "board": "linux"}
    device_id = backend.post("/v1/devices", words["device"], device)["device_id"]
    gateway = {"public_key": encode(ed25519.public_key(b"g" * 32))}
    backend.post("/v1/gateways", words["gateway"], gateway)
    assert [one["device_id"] for one in backend.get("/v1/devices", words["ada"])] == [device_id]


def test_an_enrolment_says_whose_where_there_are_two_owners(backend: Backend) -> None:
    config = ("--config", str(backend.config))
    for name in ("Ada", "Bob"):
        surge("owner", *config, "--name", name, "--out", f"{name}.token", cwd=backend.folder)
    arguments = ("enrolment", *config, "--kind", "device", "--out", "device.token")
    unsaid = surge(*arguments, cwd=backend.folder)
    assert unsaid.returncode == 2
    assert "(Ada)" in unsaid.stderr
    for wrong in (("--owner", "o" + "z" * 16), ("--expires-in-hours", "0"), ("--name", "a\nb")):
        assert surge(*arguments, *wrong, cwd=backend.folder).returncode == 2, wrong
    assert not (backend.folder / "device.token").exists()
    ada = next(word for word in unsaid.stderr.split() if word.startswith("o") and len(word) == 17)
    assert surge(*arguments, "--owner", ada, cwd=backend.folder).returncode == 0
