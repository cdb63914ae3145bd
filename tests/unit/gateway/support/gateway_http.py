"""The test backend behind real HTTP, in a thread of its own: what a gateway process talks to.

Faults are switched on by tests: `down` closes every connection unanswered, `answers` overrides single paths.
"""

import contextlib
import json
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from gateway_backend import BackendState, Conflict, Log
from gateway_reports import Device

from surge_host.mqtt_credentials import make_device_credential
from surge_wire.hkdf import mqtt_password

TOKEN = "the-gateways-token"
ENROLMENT_TOKEN = "an-enrolment-token"
GATEWAY_ID = "gaaaaaaaaaaaaaaaa"


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


class TestBackend:
    """State that the handler's threads share, under one lock; `changed` tells tests that something
    happened.
    """

    __test__ = False

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.log = Log()
        self.state: BackendState | None = None
        self.enrolled_key = b""
        self.lose_enrolment_answer = False
        self.lose_answers = 0  # so many submissions are stored, and the answer is lost
        self.down = False
        self.requests = 0
        self.devices: list[dict[str, object]] = []
        self.commands: list[dict[str, object]] = []
        self.answers: dict[str, Callable[[], tuple[int, str, bytes, dict[str, str]]]] = {}
        self.url = ""

    def add_device(self, device: Device, status: str = "active") -> None:
        with self.changed:
            credential = make_device_credential(device.device_id, mqtt_password(device.key))
            self.devices.append(
                {
                    "device_id": device.device_id,
                    "status": status,
                    "mqtt_bcrypt": credential.bcrypt,
                    "mqtt_pbkdf2_sha512": credential.pbkdf2_sha512,
                    "revision": len(self.devices) + 1,
                }
            )

    def add_command(self, device_id: str, envelope: bytes) -> None:
        with self.changed:
            number = len(self.commands) + 1
            self.commands.append({"id": number, "device_id": device_id, "envelope": base64url(envelope)})

    @property
    def reports(self) -> list[bytes]:
        with self.lock:
            return [] if self.state is None else self.state.reports

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; it is looked at after each request."""
        with self.changed:
            self.changed.wait_for(condition)

    def enrol(self, body: dict[str, str], token: str) -> tuple[int, dict[str, str]]:
        key = urlsafe_b64decode(body["public_key"] + "=")
        if token != ENROLMENT_TOKEN:
            return 401, {"title": "unknown token"}
        if self.enrolled_key not in (b"", key):
            return 409, {"title": "token used", "detail": "the token was used with another key"}
        self.enrolled_key = key
        if self.state is None:
            self.state = BackendState(GATEWAY_ID, key, self.log)
        log_key = base64url(self.log.public_key)
        return 201, {"gateway_id": GATEWAY_ID, "token": TOKEN, "log_public_key": log_key, "log_id": "test"}

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
        if path == "/v1/log/head":
            return 200, "application/cose", self.log.head()
        if path == "/v1/log/consistency":
            sizes = int(query["from"][0]), int(query["to"][0])
            return 200, "application/cose", self.log.consistency(*sizes)
        assert self.state is not None
        if path == "/v1/gateways/self":
            document: dict[str, object] = {
                "gateway_id": self.state.gateway_id,
                "next_batch_seq": self.state.next_seq,
                "previous": self.state.previous.hex(),
                "log_public_key": base64url(self.log.public_key),
                "server_time_ms": 1_700_000_000_000,
            }
        elif path == "/v1/gateways/self/devices":
            after = int(query["after_revision"][0])
            changed = [device for device in self.devices if int(str(device["revision"])) > after]
            document = {"revision": max(after, len(self.devices)), "devices": changed, "more": False}
        elif path == "/v1/gateways/self/commands":
            after = int(query["after_id"][0])
            document = {"commands": [command for command in self.commands if int(str(command["id"])) > after]}
        else:
            return 404, "application/problem+json", b"{}"
        return 200, "application/json", json.dumps(document).encode()

    def submit(self, body: bytes) -> tuple[int, str, bytes]:
        assert self.state is not None
        try:
            return 201, "application/cbor", self.state.submit(body)
        except Conflict as error:
            status = 403 if error.code == "signature_invalid" else 409
            return status, "application/problem+json", json.dumps({"code": error.code}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: TestBackend

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, body: bytes) -> None:
        backend = self.backend
        with backend.changed:
            backend.requests += 1
            backend.changed.notify_all()
            answer = self._answer(backend, body)
            backend.changed.notify_all()
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        status, kind, data, headers = answer
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have heard enough
            self.wfile.write(data)

    def _answer(self, backend: TestBackend, body: bytes) -> tuple[int, str, bytes, dict[str, str]] | None:
        """None: the connection is closed without an answer."""
        if backend.down:
            return None
        target = urlsplit(self.path)
        if target.path in backend.answers:
            return backend.answers[target.path]()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if target.path == "/v1/gateways":
            status, document = backend.enrol(json.loads(body), token)
            if backend.lose_enrolment_answer:
                backend.lose_enrolment_answer = False
                return None
            return status, "application/json", json.dumps(document).encode(), {}
        if not target.path.startswith("/v1/log/") and token != TOKEN:
            return 401, "application/problem+json", b'{"code": "token_unknown"}', {}
        if self.command == "POST":
            answer = backend.submit(body)
            if backend.lose_answers:
                backend.lose_answers -= 1
                return None
            return *answer, {}
        return *backend.get(target.path, parse_qs(target.query)), {}

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def running_backend() -> Iterator[TestBackend]:
    """A backend that listens on a free port until the end of the block."""
    backend = TestBackend()
    handler = type("Handler", (_Handler,), {"backend": backend})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    backend.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
