"""Several backend processes on one database at once: workers of one `surge backend`, and backends of their
own. Whatever reaches whichever, in whatever order, and whatever is killed meanwhile: one set of transfers,
one chain, one answer for each batch, byte for byte."""

import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from databases import KINDS, SQLITE
from postgresql_server import PostgresServer, running_server

from surge_backend.measurements import MEMORY_FOLDER

from .conftest import Backend, Device, Gateway, bearer, surge

GATEWAYS = 4
ROUNDS = 6
REPORTS = 20
# Nothing listens there: telemetry waits, which is no matter of what is tested here.
NO_STORE = '[telemetry]\nkind = "influx1"\nurl = "http://127.0.0.1:9"\n'


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if kind == SQLITE:
        yield f"sqlite:///{tmp_path / 'shared.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    with server.database() as name:
        yield server.url(name)


def make_backend(folder: Path, url: str, text: str = NO_STORE, like: Backend | None = None) -> Backend:
    """A backend on the database at `url`; `like` set it up and shares its keys."""
    folder.mkdir()
    made = Backend(folder)
    secret = folder / "database.url"
    secret.write_text(url)
    secret.chmod(0o600)
    made.configure(text + f'[storage]\ndatabase_url_file = "{secret}"\n')
    if like is None:
        done = surge("init", "--config", str(made.config), cwd=folder)
        assert done.returncode == 0, done.stderr
    else:
        made.data.mkdir(mode=0o700)
        for name in ("master.key", "log.key", "admin.token"):
            shutil.copy(like.data / name, made.data / name)
    return made


@pytest.fixture
def running(tmp_path: Path) -> Iterator[ExitStack]:
    """Whatever is pushed on it is ended after the test."""
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, backend: Backend, *arguments: str) -> Backend:
    backend.start(*arguments)

    def end() -> None:
        if backend.process is not None:
            backend.stop()
        backend.client.close()
        print(backend.text)

    stack.callback(end)
    return backend


def population(backend: Backend) -> tuple[list[Gateway], list[Device]]:
    _, owner = backend.owner("Ada")
    return [backend.gateway(owner) for _ in range(GATEWAYS)], [backend.device(owner) for _ in range(GATEWAYS)]


def post(client: httpx.Client, url: str, gateway: Gateway, envelope: bytes) -> httpx.Response:
    headers = bearer(gateway.token) | {"Content-Type": "application/cose"}
    return client.post(f"{url}/v1/batches", content=envelope, headers=headers)


def insist(url: str, gateway: Gateway, envelope: bytes) -> bytes:
    """Send until it is settled, as a gateway does: a refused or cut connection and a 503 are tried again."""
    while True:
        try:
            with httpx.Client(timeout=60) as client:
                answer = post(client, url, gateway, envelope)
        except httpx.TransportError:
            continue
        if answer.status_code in (200, 201):
            return answer.content
        assert answer.status_code == 503, answer.text


def assert_books_hold(backend: Backend, batches: int, reports: int) -> None:
    """The chain has each batch once, each report is paid once, and every invariant holds."""
    stats = backend.get("/v1/stats")
    assert (stats["tree_size"], stats["reports_accepted"], stats["reports_rejected"]) == (batches, reports, 0)
    checked = surge("check", "--config", str(backend.config), cwd=backend.folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("holds") == 5


@pytest.mark.threat(11)
def test_the_same_batches_at_two_backends_at_once(tmp_path: Path, url: str, running: ExitStack):
    first = start(running, make_backend(tmp_path / "a", url))
    second = start(running, make_backend(tmp_path / "b", url, like=first))
    gateways, devices = population(first)
    urls = [first.url, second.url]
    with ThreadPoolExecutor(2 * GATEWAYS) as senders, httpx.Client(timeout=60) as client:
        for _ in range(ROUNDS):
            now_ms = first.now_ms(gateways[0])
            envelopes = [
                gateway.batch([device.report() for _ in range(REPORTS)], now_ms)
                for gateway, device in zip(gateways, devices, strict=True)
            ]
            together = threading.Barrier(2 * GATEWAYS)

            def send(
                url: str, gateway: Gateway, envelope: bytes, together: threading.Barrier = together
            ) -> httpx.Response:
                together.wait()
                return post(client, url, gateway, envelope)

            sent = [
                [senders.submit(send, url, gateway, envelope) for url in urls]
                for gateway, envelope in zip(gateways, envelopes, strict=True)
            ]
            for answers in ([future.result() for future in pair] for pair in sent):
                assert sorted(answer.status_code for answer in answers) == [200, 201]
                assert answers[0].content == answers[1].content
    assert_books_hold(first, GATEWAYS * ROUNDS, GATEWAYS * ROUNDS * REPORTS)
    heads = [backend.request("GET", "/v1/log/head").content for backend in (first, second)]
    assert heads[0] == heads[1]


@pytest.mark.threat(11)
def test_workers_are_killed_in_the_middle_of_batches(tmp_path: Path, url: str, running: ExitStack):
    backend = start(running, make_backend(tmp_path / "a", url), "--workers", "4")
    assert backend.text.count("surge backend: ") == 1
    gateways, devices = population(backend)
    now_ms = backend.now_ms(gateways[0])
    enough = threading.Event()
    settled: list[list[tuple[bytes, bytes]]] = [[] for _ in gateways]

    def keep_sending(number: int) -> None:
        while not enough.is_set():
            envelope = gateways[number].batch([devices[number].report() for _ in range(REPORTS)], now_ms)
            settled[number].append((envelope, insist(backend.url, gateways[number], envelope)))

    with ThreadPoolExecutor(GATEWAYS) as senders:
        sending = [senders.submit(keep_sending, number) for number in range(GATEWAYS)]
        requests = 0.0
        for kills in range(1, 5):
            before = sum(map(len, settled))
            wait_until(lambda before=before: sum(map(len, settled)) >= before + GATEWAYS)  # type: ignore[misc]
            os.kill(newest_workers(backend)[kills % 4], signal.SIGKILL)
            wait_until(lambda kills=kills: backend.text.count("worker_started") == 4 + kills)  # type: ignore[misc]
            counted = counter(backend, "surge_http_requests_total")
            assert counted >= requests  # whichever worker answers, and although one died
            requests = counted
        enough.set()
        for future in sending:
            future.result()
    assert counter(backend, "surge_workers_ended_total") == 4
    count = sum(map(len, settled))
    for gateway, own in zip(gateways, settled, strict=True):
        for envelope, answer in own:
            again = post(backend.client, backend.url, gateway, envelope)
            assert (again.status_code, again.content) == (200, answer)
    assert_books_hold(backend, count, count * REPORTS)
    assert backend.stop() == 0
    assert "Traceback" not in backend.text


def wait_until(condition) -> None:  # type: ignore[no-untyped-def]
    """The test's own time-out is the only one."""
    while not condition():
        threading.Event().wait(0.02)


def newest_workers(backend: Backend) -> dict[int, int]:
    """The process of each place."""
    return {
        int(worker): int(pid)
        for pid, worker in re.findall(r"worker_started\s+pid=(\d+) worker=(\d+)", backend.text)
    }


def counter(backend: Backend, name: str) -> float:
    with httpx.Client(timeout=60) as client:
        while True:
            try:
                text = client.get(f"{backend.url}/metrics").text
                break
            except httpx.TransportError:  # the worker was killed
                continue
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path, running: ExitStack):
    backend = start(running, make_backend(tmp_path / "a", f"sqlite:///{tmp_path / 'a.db'}"), "--workers", "2")
    assert len(newest_workers(backend)) == 2
    assert backend.process is not None
    mine = f"surge-backend-{backend.process.pid}-*"
    places = [folder for folder in (Path(MEMORY_FOLDER), backend.data) if list(folder.glob(mine))]
    assert len(places) == 1
    backend.stop(signal.SIGKILL)  # reads to the end of what all of them print
    assert backend.text.count("supervisor_gone") == 2
    with pytest.raises(httpx.ConnectError):
        backend.request("GET", "/healthz")
    wait_until(lambda: not list(places[0].glob(mine)))


def test_the_projector_moves_when_its_holder_is_killed(tmp_path: Path, url: str, running: ExitStack):
    backend = start(running, make_backend(tmp_path / "a", url), "--workers", "2")
    wait_until(lambda: "projector_begins" in backend.text)
    holders = []
    for turn in (1, 2, 3):
        wait_until(lambda turn=turn: backend.text.count("projector_begins") == turn)  # type: ignore[misc]
        holder = int(re.findall(r"projector_begins\s+worker=(\d+)", backend.text)[-1])
        holders.append(newest_workers(backend)[holder])
        os.kill(holders[-1], signal.SIGKILL)
    wait_until(lambda: backend.text.count("projector_begins") == 4)
    assert len(set(holders)) == 3


def test_each_backend_fills_a_duckdb_of_its_own(
    tmp_path: Path, postgresql: PostgresServer, running: ExitStack
):
    with postgresql.database() as name:
        first = start(running, make_backend(tmp_path / "a", postgresql.url(name), ""))
        _, owner = first.owner("Ada")
        gateway, device = first.gateway(owner), first.device(owner)
        envelope = gateway.batch([device.report() for _ in range(5)], first.now_ms(gateway))
        assert first.submit(gateway, envelope).status_code == 201
        second = start(running, make_backend(tmp_path / "b", postgresql.url(name), "", like=first))
        for backend in (first, second):
            backend.wait_for(lambda stats: stats["telemetry_points"] == 5 and stats["telemetry_lag"] == 0)
        for backend in (first, second):
            assert backend.stop() == 0


@pytest.mark.threat(11)
def test_postgresql_is_killed_and_comes_back_under_load(tmp_path: Path, running: ExitStack):
    server = running.enter_context(running_server(durable=True))
    first = start(running, make_backend(tmp_path / "a", server.url()), "--workers", "2")
    gateways, devices = population(first)
    now_ms = first.now_ms(gateways[0])
    enough = threading.Event()
    settled: list[list[tuple[bytes, bytes]]] = [[] for _ in gateways]

    def keep_sending(number: int) -> None:
        while not enough.is_set():
            envelope = gateways[number].batch([devices[number].report() for _ in range(REPORTS)], now_ms)
            settled[number].append((envelope, insist(first.url, gateways[number], envelope)))

    with ThreadPoolExecutor(GATEWAYS) as senders:
        sending = [senders.submit(keep_sending, number) for number in range(GATEWAYS)]
        for end in (server.kill, lambda: server.end(signal.SIGQUIT), lambda: server.end(signal.SIGINT)):
            before = sum(map(len, settled))
            wait_until(lambda before=before: sum(map(len, settled)) >= before + GATEWAYS)  # type: ignore[misc]
            end()
            wait_until(lambda: first.request("GET", "/healthz").status_code == 503)
            server.start()
        before = sum(map(len, settled))
        wait_until(lambda: sum(map(len, settled)) >= before + 2 * GATEWAYS)
        enough.set()
        for future in sending:
            future.result()
    count = sum(map(len, settled))
    for gateway, own in zip(gateways, settled, strict=True):
        for envelope, answer in own:
            again = post(first.client, first.url, gateway, envelope)
            assert (again.status_code, again.content) == (200, answer)
    assert_books_hold(first, count, count * REPORTS)
    assert "worker_ended" not in first.text
    assert first.stop() == 0


def test_workers_and_duckdb_do_not_go_together(tmp_path: Path):
    backend = make_backend(tmp_path / "a", f"sqlite:///{tmp_path / 'a.db'}", "")
    for arguments in (("--workers", "2"), ("run", "--workers", "2")):
        refused = surge(*arguments, "--config", str(backend.config), cwd=tmp_path)
        assert refused.returncode == 2
        assert "influx1 or influx2" in refused.stderr
        assert len(refused.stderr.splitlines()) == 3
