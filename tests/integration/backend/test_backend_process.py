"""The whole backend as a process: enrol, submit, verify, restart, and every fault that can be made from
outside.
"""

import hashlib
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
from pathlib import Path

import duckdb
import httpx
import pytest

from surge_wire import ed25519
from surge_wire.command import open_command
from surge_wire.hkdf import INFO_COMMAND, derive_key
from surge_wire.submission import verify_submission
from surge_wire.verdicts import ACCEPTED

from .conftest import Backend, Device, Gateway, bearer, decode, problem, surge


def checked(gateway: Gateway, envelope: bytes, answer: httpx.Response, seq: int, count: int):  # type: ignore[no-untyped-def]
    """The settlement, verified as a gateway does before it forgets a batch."""
    settlement, index, _size, _root = verify_submission(
        answer.content,
        hashlib.sha256(envelope).digest(),
        gateway.gateway_id,
        seq,
        count,
        ed25519.verifier(gateway.log_public_key),
    )
    return settlement, index


@pytest.mark.threat(10)
@pytest.mark.threat(25)
def test_the_way_of_a_batch_over_a_restart(backend: Backend) -> None:
    backend.start()
    owner_id, owner = backend.owner("Ada")
    operator_id, operator = backend.owner("Bob")
    gateway = backend.gateway(operator)
    devices = [backend.device(owner) for _ in range(3)]
    now_ms = backend.now_ms(gateway)

    # the gateway learns of no device: they are Ada's, and not assigned to Bob's gateway
    changes = backend.get("/v1/gateways/self/devices", bearer(gateway.token))
    assert changes == {"revision": 0, "more": False, "devices": []}

    reports = [device.report(20.0 + i) for i in range(10) for device in devices]
    envelope = gateway.batch(reports, now_ms)
    answer = backend.submit(gateway, envelope)
    assert answer.status_code == 201, answer.text
    settlement, index = checked(gateway, envelope, answer, 0, 30)
    assert index == 0
    assert settlement.verdicts() == [ACCEPTED] * 30

    balances = {
        a["account_id"]: a["balance_microcredits"] for a in backend.get("/v1/accounts", backend.admin)
    }
    assert balances == dict(settlement.credits)
    assert balances[f"owner:{owner_id}"] > balances[f"owner:{operator_id}"] > 0
    assert sum(balances.values()) == 0

    backend.wait_for(lambda stats: stats["telemetry_points"] == 30 and stats["telemetry_lag"] == 0)
    path = f"/v1/devices/{devices[0].device_id}/telemetry"
    samples = backend.get(path, owner, name="temperature", from_ms=now_ms - 60_000)
    # all came in the same millisecond, and the devices have no clock: their order within it says nothing
    assert sorted(sample["value"] for sample in samples["samples"]) == [20.0 + i for i in range(10)]
    assert backend.get(path + "/latest", owner)[0]["name"] == "temperature"
    mean = backend.get(path, owner, from_ms=now_ms - 60_000, window_ms=3_600_000, aggregate="mean")["samples"]
    assert [sample["value"] for sample in mean] == [24.5]
    gaps = backend.get(f"/v1/devices/{devices[0].device_id}/gaps", owner)["boots"]
    assert [(boot["boot"], boot["received"], boot["missing_count"]) for boot in gaps] == [(1, 10, 0)]
    claim = gaps[0]["claim"]
    assert (claim["seq"], claim["claimed_reports"], claim["counted_reports"]) == (9, 9, 9)

    assert backend.stop() == 0
    backend.start()
    again = backend.submit(gateway, envelope)
    assert again.status_code == 200
    assert again.content == answer.content
    more = gateway.batch([devices[0].report()], backend.now_ms(gateway))
    second = backend.submit(gateway, more)
    assert second.status_code == 201
    assert checked(gateway, more, second, 1, 1)[1] == 1
    stats = backend.wait_for(lambda found: found["telemetry_points"] == 31)
    assert (stats["reports_accepted"], stats["tree_size"]) == (31, 2)
    assert backend.stop() == 0

    check = surge("check", "--config", str(backend.config), cwd=backend.folder)
    assert check.returncode == 0, check.stdout
    assert "broken" not in check.stdout
    assert check.stdout.count("holds") >= 5
    # threat 25: nothing that was printed or logged in all of this holds a secret
    assert backend.secrets
    for secret in backend.secrets:
        assert secret not in backend.text + check.stdout + check.stderr
    assert "Traceback" not in backend.text


def test_a_device_is_commanded_through_its_gateway(backend: Backend) -> None:
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    changes = backend.get("/v1/gateways/self/devices", bearer(gateway.token))
    assert [change["device_id"] for change in changes["devices"]] == [device.device_id]
    path = f"/v1/devices/{device.device_id}/commands"
    body = {"operation": "set_report_interval", "arguments": {"seconds": 5}}
    queued = backend.post(path, owner, body)
    (waiting,) = backend.get("/v1/gateways/self/commands", bearer(gateway.token))["commands"]
    opened = open_command(
        decode(waiting["envelope"]),
        device.device_id,
        derive_key(device.secret, INFO_COMMAND),
    )
    assert (opened.counter, opened.arguments) == (queued["counter"], {1: 5})
    done = gateway.batch([device.report(command_counter=queued["counter"])], backend.now_ms(gateway))
    assert backend.submit(gateway, done).status_code == 201
    assert backend.get("/v1/gateways/self/commands", bearer(gateway.token))["commands"] == []
    assert backend.get(path, owner)[0]["executed"] is True


@pytest.mark.threat(2)
def test_an_enrolment_token_is_spent_once(backend: Backend) -> None:
    backend.start()
    _, owner = backend.owner("Ada")
    token = backend.enrolment(owner, "device")
    first = backend.post("/v1/devices", token, {"secret": "A" * 43, "board": "linux"})
    again = backend.post("/v1/devices", token, {"secret": "A" * 43, "board": "linux"}, expected=200)
    assert again == first
    other = backend.request(
        "POST", "/v1/devices", headers=token, json={"secret": "B" * 42 + "A", "board": "linux"}
    )
    assert (other.status_code, problem(other)["code"]) == (409, "enrolment_used")
    assert len(backend.get("/v1/devices", owner)) == 1


@pytest.mark.threat(1)
def test_a_cloned_key_freezes_and_an_admin_lets_it_go_on(backend: Backend) -> None:
    backend.start()
    owner_id, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    clone = Device(device.device_id, device.secret)
    now_ms = backend.now_ms(gateway)
    assert backend.submit(gateway, gateway.batch([device.report(1.0)], now_ms)).status_code == 201
    assert backend.submit(gateway, gateway.batch([clone.report(2.0)], now_ms)).status_code == 201
    path = f"/v1/devices/{device.device_id}"
    frozen = backend.get(path, owner)
    assert frozen["status"] == "frozen"
    assert frozen["status_reason"]
    assert frozen["status_evidence"]
    account = backend.get(f"/v1/accounts/owner:{owner_id}", owner)
    assert account["held_microcredits"] > 0
    assert backend.submit(gateway, gateway.batch([device.report(3.0)], now_ms)).status_code == 201
    verdicts = backend.get(path + "/verdicts", owner)
    assert [entry["verdict"] for entry in verdicts["rejections"]] == ["device_frozen", "equivocation"]
    assert [alarm["kind"] for alarm in backend.get("/v1/alarms", backend.admin)] == ["device_frozen"]
    (change,) = backend.get("/v1/gateways/self/devices", bearer(gateway.token), after_revision=1)["devices"]
    assert change["status"] == "frozen"
    freed = backend.post(path + "/unfreeze", backend.admin, {"reason": "board replaced"}, expected=200)
    assert freed["released_microcredits"] == account["held_microcredits"]
    device.next_seq = 5
    assert backend.submit(gateway, gateway.batch([device.report(4.0)], now_ms)).status_code == 201
    assert backend.get(path, owner)["totals"]["reports"] == 2


@pytest.mark.threat(9)
def test_withheld_reports_show_as_gaps(backend: Backend) -> None:
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    reports = [device.report() for _ in range(20)]
    kept = reports[:3] + reports[6:10] + reports[19:]
    assert backend.submit(gateway, gateway.batch(kept, backend.now_ms(gateway))).status_code == 201
    (boot,) = backend.get(f"/v1/devices/{device.device_id}/gaps", owner)["boots"]
    assert [(gap["first"], gap["last"], gap["state"]) for gap in boot["missing"]] == [
        (3, 5, "missing"),
        (10, 18, "missing"),
    ]
    assert (boot["missing_count"], boot["received"], boot["missing_complete"]) == (12, 8, True)
    assert boot["claim"]["claimed_reports"] == 19
    assert boot["claim"]["counted_reports"] == 7


def test_a_database_locked_by_another_process_is_503_and_recovers(backend: Backend) -> None:
    backend.configure("[storage]\nbusy_timeout_ms = 100\n")
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    envelope = gateway.batch([device.report()], backend.now_ms(gateway))
    other = sqlite3.connect(backend.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = backend.submit(gateway, envelope)
    assert (refused.status_code, problem(refused)["code"]) == (503, "store_busy")
    assert refused.headers["retry-after"]
    assert backend.request("GET", "/healthz").status_code == 503
    assert backend.get("/v1/stats")["tree_size"] == 0  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    assert backend.submit(gateway, envelope).status_code == 201
    assert backend.request("GET", "/healthz").status_code == 200


def test_a_telemetry_store_that_is_down_holds_up_nothing(backend: Backend) -> None:
    blocked = backend.folder / "blocked"
    blocked.write_text("a file where a folder should be")
    backend.configure("[telemetry]\npath = 'blocked/telemetry.duckdb'\nretry_max_s = 0.5\n")
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    for _ in range(3):
        envelope = gateway.batch([device.report()], backend.now_ms(gateway))
        assert backend.submit(gateway, envelope).status_code == 201
    stats = backend.get("/v1/stats")
    assert (stats["telemetry_lag"], stats["telemetry_points"]) == (3, None)
    health = backend.request("GET", "/healthz")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert str(blocked) not in health.text
    answer = backend.request("GET", f"/v1/devices/{device.device_id}/telemetry", headers=owner)
    assert (answer.status_code, problem(answer)["code"]) == (503, "telemetry_unavailable")
    assert "telemetry_store_unavailable" in backend.text
    blocked.unlink()
    backend.wait_for(lambda found: found["telemetry_lag"] == 0 and found["telemetry_points"] == 3)
    while backend.get("/healthz")["status"] != "ok":  # it asks the store once a second
        pass


def test_telemetry_is_rebuilt_the_same(backend: Backend) -> None:
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    now_ms = backend.now_ms(gateway)
    for _ in range(4):
        batch = gateway.batch([device.report(i / 3) for i in range(5)], now_ms)
        assert backend.submit(gateway, batch).status_code == 201
    backend.wait_for(lambda found: found["telemetry_points"] == 20)
    path = f"/v1/devices/{device.device_id}/telemetry"
    before = backend.get(path, owner, from_ms=now_ms - 60_000, to_ms=now_ms + 60_000)
    running = surge("rebuild-telemetry", "--config", str(backend.config), cwd=backend.folder)
    assert running.returncode == 2
    assert "another `surge backend`" in running.stderr
    assert backend.stop() == 0
    with duckdb.connect(str(backend.data / "telemetry.duckdb")) as store:
        store.execute("UPDATE telemetry SET value = 999 WHERE value > 1")
        store.execute("DELETE FROM telemetry WHERE value = 0")
    done = surge("rebuild-telemetry", "--config", str(backend.config), cwd=backend.folder)
    assert done.returncode == 0, done.stderr
    assert "20 points from 4 batches" in done.stdout
    backend.start()
    assert backend.get(path, owner, from_ms=now_ms - 60_000, to_ms=now_ms + 60_000) == before


@pytest.mark.threat(20)
def test_hostile_names_and_values_stay_data(backend: Backend) -> None:
    """What would break out of line protocol or SQL is refused as malformed, or stored as it is."""
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device, victim = backend.gateway(owner), backend.device(owner), backend.device(owner)
    now_ms = backend.now_ms(gateway)
    text = 'x",device=' + victim.device_id + " value=1\n'; DROP TABLE telemetry; --"
    report = device.report(text, name="note")  # type: ignore[arg-type]
    assert backend.submit(gateway, gateway.batch([report], now_ms)).status_code == 201
    backend.wait_for(lambda found: found["telemetry_points"] == 1)
    samples = backend.get(f"/v1/devices/{device.device_id}/telemetry", owner, from_ms=now_ms - 60_000)[
        "samples"
    ]
    assert [sample["value"] for sample in samples] == [text]
    assert backend.get(f"/v1/devices/{victim.device_id}/telemetry", owner)["samples"] == []
    for name in ("a b", "a,b", "a=b", "a\nb", "'; DROP TABLE telemetry; --"):
        answer = backend.request(
            "GET", f"/v1/devices/{device.device_id}/telemetry", headers=owner, params={"name": name}
        )
        assert answer.status_code == 422, name


@pytest.mark.threat(19)
def test_an_oversize_body_is_refused_and_the_connection_closed(backend: Backend) -> None:
    backend.start()
    host, port = backend.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(
            b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Type: application/cose\r\n"
            b"Content-Length: 99999999999\r\n\r\n"
        )
        received = b""
        while chunk := client.recv(65_536):  # it ends: the backend closes
            received += chunk
    assert received.startswith(b"HTTP/1.1 413")
    assert b"too_large" in received
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(b"POST /v1/owners HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        received = b""
        try:
            for _ in range(100):
                client.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
            client.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed on us in mid-body: just what is wanted
        try:
            while chunk := client.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
    assert b" 413 " in received or received == b""
    assert backend.get("/v1/stats")["tree_size"] == 0


def test_sigterm_finishes_and_sigkill_loses_nothing(backend: Backend) -> None:
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    envelope = gateway.batch([device.report()], backend.now_ms(gateway))
    answer = backend.submit(gateway, envelope)
    backend.stop(signal.SIGKILL)
    backend.start()
    again = backend.submit(gateway, envelope)
    assert (again.status_code, again.content) == (200, answer.content)
    backend.wait_for(lambda found: found["telemetry_points"] == 1)
    assert backend.stop(signal.SIGINT) == 0


@pytest.mark.threat(13)
def test_a_log_that_was_changed_is_noticed_at_the_start(backend: Backend) -> None:
    backend.start()
    _, owner = backend.owner("Ada")
    gateway, device = backend.gateway(owner), backend.device(owner)
    for _ in range(3):
        batch = gateway.batch([device.report()], backend.now_ms(gateway))
        assert backend.submit(gateway, batch).status_code == 201
    assert backend.stop() == 0
    connection = sqlite3.connect(backend.database)
    (settlement,) = connection.execute("SELECT settlement FROM batches WHERE log_index = 1").fetchone()
    changed = settlement.replace(gateway.gateway_id.encode(), b"g" + b"a" * 16)
    assert changed != settlement
    connection.execute("UPDATE batches SET settlement = ? WHERE log_index = 1", (changed,))
    connection.commit()
    connection.close()
    backend.start()
    answer = backend.submit(gateway, gateway.batch([device.report()], 1_800_000_000_000))
    assert (answer.status_code, problem(answer)["code"]) == (503, "log_stopped")
    assert backend.request("GET", "/healthz").status_code == 503
    assert "log_forked" in backend.text
    assert backend.stop() == 0
    check = surge("check", "--config", str(backend.config), cwd=backend.folder)
    assert check.returncode == 1
    assert "broken  log_consistent" in check.stdout


def test_only_the_owner_can_read_what_is_made(backend: Backend) -> None:
    backend.start()
    for path in [backend.data, *backend.data.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert os.stat(backend.config).st_mode & 0o111 == 0


def test_tls(backend: Backend, tmp_path: Path) -> None:
    """With a certificate the same server speaks HTTPS, and nothing else."""
    subprocess.run(
        [
            "openssl",
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tmp_path / "server.key"), "-out", str(tmp_path / "server.crt")),
        ],
        check=True,
        capture_output=True,
    )
    backend.config.write_text("[server]\nport = 0\ntls_certificate = 'server.crt'\ntls_key = 'server.key'\n")
    backend.start()
    assert backend.url.startswith("https://")
    trust = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
    with httpx.Client(verify=trust) as client:
        assert client.get(backend.url + "/v1/stats").status_code == 200
        plain = backend.url.replace("https", "http")
        with pytest.raises(httpx.TransportError):
            client.get(plain + "/v1/stats")
