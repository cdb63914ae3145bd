"""`surge device`: enrolment against a real HTTP server, and what is wrong is said before anything is done."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from surge_cli.device import INTERVAL_S
from surge_cli.main import main
from surge_cli.provisioning import PENDING_FILE, Enrolment, enrol_device
from surge_cli.sources import firmware_folder
from surge_host.errors import UserError

DEVICE = "d" + "a2b3c4d5e6f7gggg"
TOKEN = "enrolment-token-0123456789"

Answer = tuple[int, Any]


class SmallBackend:
    """Knows one thing: one token, one secret, one id. ``answers`` come before that, one per request."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.secret: str | None = None
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                backend.requests.append(
                    {"path": self.path, "authorization": self.headers["Authorization"], **body}
                )
                first = backend.secret is None
                backend.secret = backend.secret or body["secret"]
                if backend.answers:
                    backend.answers.pop(0)(self)
                elif body["secret"] != backend.secret:
                    reply(
                        self,
                        409,
                        {"title": "Enrolment used", "detail": "this token has enrolled another key"},
                    )
                else:
                    reply(self, 201 if first else 200, {"device_id": DEVICE})

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """The request arrived, the answer doesn't."""
    handler.close_connection = True
    handler.connection.shutdown(2)


@pytest.fixture
def backend() -> Iterator[SmallBackend]:
    made = SmallBackend()
    yield made
    made.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def wanted(url: str, **more: Any) -> Enrolment:
    given: dict[str, Any] = {"name": "attic", "board": "linux", "settings": {"broker_port": 1883}}
    return Enrolment(**{"backend_url": url, "token": TOKEN, **given, **more})


def enrol(backend: SmallBackend, token_file: Path, out: Path, *more: str) -> int:
    given = ["--backend", backend.url, "--enrolment-token-file", str(token_file), "--out", str(out)]
    return main(["device", "enrol", *given, *more])


def test_enrol_writes_what_the_firmware_reads_and_shows_no_secret(
    backend: SmallBackend, token_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "devices" / "attic"
    more = ["--name", "attic", "--broker", "broker.test:8883", "--interval", "2.5", "--board", "pico_w"]
    assert enrol(backend, token_file, out, *more) == 0
    (request,) = backend.requests
    assert (request["path"], request["authorization"]) == ("/v1/devices", f"Bearer {TOKEN}")
    assert (request["board"], request["name"]) == ("pico_w", "attic")
    identity = json.loads((out / "identity.json").read_text())
    assert identity["device"] == DEVICE
    secret = bytes.fromhex(identity["secret"])
    assert len(secret) == 32
    assert base64.urlsafe_b64decode(request["secret"] + "=") == secret
    assert json.loads((out / "settings.json").read_text()) == {
        "broker_host": "broker.test",
        "broker_port": 8883,
        "report_interval_s": 2.5,
    }
    assert json.loads((out / "floor.json").read_text()) == {"boot": 0, "command": 0}
    assert sorted(os.listdir(out)) == ["floor.json", "identity.json", "settings.json"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    for path in out.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = "".join(capfd.readouterr())
    assert DEVICE in said
    for hidden in (TOKEN, secret.hex(), request["secret"]):
        assert hidden not in said


def test_the_firmware_takes_what_enrol_wrote(
    backend: SmallBackend, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert enrol(backend, token_file, tmp_path / "device", "--interval", str(INTERVAL_S[0])) == 0
    monkeypatch.syspath_prepend(str(firmware_folder()))
    from surge_device.identity import load_identity
    from surge_device.settings import TABLE, load_settings
    from surge_device.storage import Storage

    storage = Storage(str(tmp_path / "device"))
    assert load_settings(storage).report_interval_ms == 50
    identity = load_identity(storage)
    assert (identity.device, identity.next_boot()) == (DEVICE, 1)
    (row,) = [row for row in TABLE if row[0] == "report_interval_s"]
    assert row[3:5] == INTERVAL_S


def test_a_name_that_was_not_given_is_not_sent(
    backend: SmallBackend, token_file: Path, tmp_path: Path
) -> None:
    assert enrol(backend, token_file, tmp_path / "device") == 0
    assert "name" not in backend.requests[0]


def test_a_lost_answer_costs_nothing(backend: SmallBackend, tmp_path: Path) -> None:
    backend.answers = [hang_up, lambda handler: reply(handler, 503, b"<html>busy")]
    given = iter([b"a" * 32, b"b" * 32, b"c" * 32])
    for what in ("the backend doesn't answer", "the backend refused the device"):
        with pytest.raises(UserError) as caught:
            enrol_device(wanted(backend.url), tmp_path / "device", lambda _: next(given))
        assert caught.value.what == what
        assert os.listdir(tmp_path / "device") == [PENDING_FILE]
        assert stat.S_IMODE((tmp_path / "device" / PENDING_FILE).stat().st_mode) == 0o600
    assert enrol_device(wanted(backend.url), tmp_path / "device", lambda _: next(given)) == DEVICE
    assert len({request["secret"] for request in backend.requests}) == 1
    assert json.loads((tmp_path / "device" / "identity.json").read_text())["secret"] == (b"a" * 32).hex()
    assert not (tmp_path / "device" / PENDING_FILE).exists()


@pytest.mark.threat(2)
def test_a_token_that_enrolled_another_device_is_refused_in_words(
    backend: SmallBackend, token_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(backend, token_file, tmp_path / "first") == 0
    capsys.readouterr()
    assert enrol(backend, token_file, tmp_path / "second") == 2
    said = capsys.readouterr().err
    assert "the backend refused the device" in said
    assert "409" in said
    assert "this token has enrolled another key" in said
    assert TOKEN not in said
    assert not (tmp_path / "second" / "identity.json").exists()


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, [1]), (201, {"device_id": "g" + "a" * 16}), (200, {})]
)
def test_an_answer_without_a_device_id_is_an_error(
    answer: Answer, backend: SmallBackend, tmp_path: Path
) -> None:
    backend.answers = [lambda handler: reply(handler, *answer)]
    with pytest.raises(UserError, match="no device id"):
        enrol_device(wanted(backend.url), tmp_path / "device", os.urandom)
    assert not (tmp_path / "device" / "identity.json").exists()


def test_a_directory_with_a_device_is_left_alone(
    backend: SmallBackend, token_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(backend, token_file, tmp_path / "device") == 0
    before = (tmp_path / "device" / "identity.json").read_bytes()
    assert enrol(backend, token_file, tmp_path / "device") == 2
    assert "a device already lives here" in capsys.readouterr().err
    assert (tmp_path / "device" / "identity.json").read_bytes() == before
    assert len(backend.requests) == 1


def test_a_secret_does_not_travel_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in the clear"):
        enrol_device(wanted("http://192.0.2.1:1"), tmp_path / "device", os.urandom)
    for url in ("backend.test", "ftp://127.0.0.1", "http://", ""):
        with pytest.raises(UserError, match="not the address of a backend"):
            enrol_device(wanted(url), tmp_path / "device", os.urandom)
    assert not (tmp_path / "device").exists()


def test_a_proxy_of_the_environment_does_not_see_a_plain_request(
    backend: SmallBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert enrol_device(wanted(backend.url), tmp_path / "device", os.urandom) == DEVICE


def test_what_is_in_the_way_is_named(backend: SmallBackend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        enrol_device(wanted(backend.url), tmp_path / "file" / "device", os.urandom)
    assert str(tmp_path / "file") in caught.value.where
    (tmp_path / "device").mkdir()
    for text in ("", "{}", '{"secret": "abc"}', '{"secret": 5}', "[]"):
        (tmp_path / "device" / PENDING_FILE).write_text(text)
        with pytest.raises(UserError, match="secret can't be read"):
            enrol_device(wanted(backend.url), tmp_path / "device", os.urandom)
    assert backend.requests == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--broker", "nowhere"], "not an address"),
        (["--broker", "host:0"], "not an address"),
        (["--broker", "host:70000"], "not an address"),
        (["--interval", "0"], "not an interval"),
        (["--interval", "nan"], "not an interval"),
        (["--interval", "86401"], "not an interval"),
        (["--board", "toaster"], "toaster"),
    ],
)
def test_wrong_arguments_of_enrol_reach_nobody(
    more: list[str], said: str, backend: SmallBackend, token_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    try:
        code = enrol(backend, token_file, tmp_path / "device", *more)
    except SystemExit as error:  # argparse
        code = int(error.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err
    assert backend.requests == []
    assert not (tmp_path / "device").exists()


@pytest.mark.parametrize("text", [None, "", "short", "two words-of-a-token-0123456", "ü" * 30, "x" * 600])
def test_a_token_file_that_holds_no_token_is_named(
    text: str | None, backend: SmallBackend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    assert enrol(backend, path, tmp_path / "device") == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert backend.requests == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{empty}"], "no device lives here"),
        (["{empty}/none"], "no device lives here"),
        (["{empty}", "--heap", "big"], "not a size"),
        (["{empty}", "--heap", "0k"], "not a size"),
    ],
)
def test_wrong_arguments_of_run(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.replace("{empty}", str(tmp_path)) for argument in arguments]
    try:
        code = main(["device", "run", *filled])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err


def start_firmware(out: Path) -> tuple["subprocess.Popen[str]", list[str]]:
    """`surge device run` in a session of its own, and what it said until it looked for its broker."""
    process = subprocess.Popen(
        [sys.executable, "-m", "surge_cli", "device", "run", str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    while "mqtt.retry" not in (line := process.stdout.readline()):
        assert line, lines
        lines.append(line)
    return process, lines


def rest_of(process: "subprocess.Popen[str]") -> list[str]:
    """What it says until nothing of it is left: the firmware holds the other end of the pipe too."""
    assert process.stdout is not None
    with process.stdout:
        return process.stdout.readlines()


def test_run_starts_the_firmware_and_an_interrupt_ends_it_in_order(
    backend: SmallBackend, token_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "device"
    assert enrol(backend, token_file, out, "--broker", "127.0.0.1:1") == 0
    process, lines = start_firmware(out)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to both
    lines += rest_of(process)
    assert process.wait() == 130
    assert f"start {DEVICE} boot=1 board=linux" in lines[0]
    assert lines[-1].endswith("end unacked=0\n")


def test_a_device_runs_once_and_being_terminated_leaves_nothing_running(
    backend: SmallBackend, token_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "device"
    assert enrol(backend, token_file, out, "--broker", "127.0.0.1:1") == 0
    process, lines = start_firmware(out)
    assert main(["device", "run", str(out)]) == 2
    assert "this device runs already" in capsys.readouterr().err
    process.terminate()  # as a service manager does: to this one alone
    lines += rest_of(process)
    assert process.wait() == 0
    assert lines[-1].endswith("end unacked=0\n")


def test_a_directory_that_can_not_be_written_is_said(
    backend: SmallBackend, token_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "device"
    assert enrol(backend, token_file, out) == 0
    (out / "run.lock").mkdir()  # stands for a folder of another's: the superuser may write anywhere
    assert main(["device", "run", str(out)]) == 2
    assert f"{out / 'run.lock'}" in capsys.readouterr().err
