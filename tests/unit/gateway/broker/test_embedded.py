"""The embedded broker's life, with the real nats-server."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from surge_gateway.broker.embedded import START_KILLS_MAX, EmbeddedBroker
from surge_gateway.broker.errors import BrokerError
from surge_gateway.broker.server_process import find_server
from surge_gateway.broker.settings import BrokerSettings
from surge_host.mqtt_credentials import make_device_credential, make_gateway_credential

GATEWAY = make_gateway_credential("gaaaaaaaaaaaaaaaa", "g" * 43)
DEVICE = make_device_credential("daaaaaaaaaaaaaaaa", "a" * 43)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def settings(tmp_path: Path) -> BrokerSettings:
    return BrokerSettings(port=free_port(), folder=tmp_path / "broker", restart_delay_ms=10)


@contextlib.asynccontextmanager
async def running(settings: BrokerSettings) -> AsyncIterator[EmbeddedBroker]:
    async with EmbeddedBroker(settings, GATEWAY, [DEVICE]) as broker:
        run = asyncio.create_task(broker.run())
        try:
            yield broker
        finally:
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return path


async def test_it_accepts_once_it_has_started_and_is_gone_once_stopped(settings: BrokerSettings) -> None:
    async with running(settings) as broker:
        assert broker.ready.is_set()
        socket.create_connection((settings.host, settings.port)).close()
        pid = broker.pid
    assert pid is not None
    assert broker.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_its_files_are_private(settings: BrokerSettings) -> None:
    async with running(settings) as broker:
        assert stat.S_IMODE(settings.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(broker.config_path.stat().st_mode) == 0o600


async def test_nothing_listens_beside_mqtt_but_on_loopback(settings: BrokerSettings) -> None:
    """The server insists on its own protocol's port; an unknown client there is refused."""
    async with running(settings) as broker:
        ports = _listening_ports(broker.pid)
        assert settings.port in ports
        assert len(ports) == 2
        (other,) = ports - {settings.port}
        reader, writer = await asyncio.open_connection("127.0.0.1", other)
        await reader.readline()
        for credentials in ({}, {"user": DEVICE.device_id, "pass": "a" * 43}):
            writer.write(b"CONNECT " + json.dumps(credentials).encode() + b"\r\nPING\r\n")
            assert b"Authorization Violation" in await reader.readline()
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", other)
            await reader.readline()
        writer.close()


def _listening_ports(pid: int | None) -> set[int]:
    """Local TCP ports that the process listens on, all of them on 127.0.0.1."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link))
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                assert fields[1].startswith("0100007F:"), f"listens beyond loopback: {fields[1]}"
                ports.add(int(fields[1].split(":")[1], 16))
    return ports


async def test_it_comes_back_when_it_dies(settings: BrokerSettings) -> None:
    async with running(settings) as broker:
        for restarts in (1, 2):
            pid = broker.pid
            assert pid is not None
            broker.ready.clear()
            os.kill(pid, signal.SIGKILL)
            await broker.ready.wait()
            assert broker.pid != pid
            assert broker.restarts == restarts


async def test_it_tries_again_when_it_cant_come_back(settings: BrokerSettings, tmp_path: Path) -> None:
    link = tmp_path / "nats-server"
    link.symlink_to(find_server(None))
    waits = 0
    second_wait = asyncio.Event()

    def jitter() -> float:
        nonlocal waits
        waits += 1
        if waits == 2:
            second_wait.set()
        return 0.0

    async with EmbeddedBroker(_with(settings, program=link), GATEWAY, [], jitter=jitter) as broker:
        run = asyncio.create_task(broker.run())
        assert broker.pid is not None
        link.unlink()
        broker.ready.clear()
        os.kill(broker.pid, signal.SIGKILL)
        with capture_logs() as logs:
            await second_wait.wait()
        assert "no such program" in [entry.get("what") for entry in logs]
        link.symlink_to(find_server(None))
        await broker.ready.wait()
        assert broker.restarts == 1
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


async def test_a_port_in_use_is_named_before_the_store_is_touched(settings: BrokerSettings) -> None:
    with socket.create_server(("127.0.0.1", settings.port)), pytest.raises(BrokerError) as caught:
        await EmbeddedBroker(settings, GATEWAY, []).start()
    assert caught.value.what == f"port {settings.port} is in use"
    assert "broker.port" in caught.value.where
    assert "set another broker.port" in caught.value.remedy
    assert not (settings.folder / "jetstream").exists()


async def test_a_folder_in_use_is_refused(settings: BrokerSettings) -> None:
    async with running(settings):
        second = BrokerSettings(port=free_port(), folder=settings.folder)
        with pytest.raises(BrokerError, match="another gateway runs a broker in this folder"):
            await EmbeddedBroker(second, GATEWAY, []).start()
    async with running(settings):
        pass  # given back


async def test_a_server_that_ends_at_once_is_quoted(settings: BrokerSettings, tmp_path: Path) -> None:
    bad = program(tmp_path / "bad", "import sys; sys.stderr.write('out of luck\\n'); sys.exit(3)")
    with pytest.raises(BrokerError, match="status 3") as caught:
        await EmbeddedBroker(_with(settings, program=bad), GATEWAY, []).start()
    assert "out of luck" in caught.value.remedy


async def test_a_server_that_never_gets_ready_is_ended_and_quoted(
    settings: BrokerSettings, tmp_path: Path
) -> None:
    body = "import sys, time; sys.stderr.write('thinking\\n'); sys.stderr.flush(); time.sleep(600)"
    slow = program(tmp_path / "slow", body)
    broker = EmbeddedBroker(_with(settings, program=slow, start_timeout_ms=1_000), GATEWAY, [])
    with pytest.raises(BrokerError, match="wasn't ready within 1000 ms") as caught:
        await broker.start()
    assert "thinking" in caught.value.remedy
    assert broker.pid is None


async def test_a_server_deaf_to_sigterm_is_killed(settings: BrokerSettings, tmp_path: Path) -> None:
    body = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "t = '[1] 2026/11/22 00:00:00.0 [INF] '\n"
        "sys.stderr.write(t + 'Listening for MQTT clients on x\\n' + t + 'Server is ready\\n')\n"
        "sys.stderr.flush()\ntime.sleep(600)\n"
    )
    broker = EmbeddedBroker(
        _with(settings, program=program(tmp_path / "deaf", body), stop_timeout_ms=100), GATEWAY, []
    )
    await broker.start()
    pid = broker.pid
    assert pid is not None
    await broker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_server_that_is_killed_while_it_starts_is_started_again(
    settings: BrokerSettings, tmp_path: Path
) -> None:
    body = (
        "import os, pathlib, signal, sys\n"
        f"first = pathlib.Path({str(tmp_path / 'first')!r})\n"
        "if not first.exists():\n"
        "    first.touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"os.execv({str(find_server(None))!r}, sys.argv)\n"
    )
    wanted = _with(settings, program=program(tmp_path / "killed", body))
    with capture_logs() as logs:
        async with running(wanted) as broker:
            assert broker.ready.is_set()
    assert [entry["what"] for entry in logs if entry["event"] == "broker_died"] == [
        "the broker ended at once, status -9"
    ]


async def test_a_server_that_is_always_killed_is_an_error(settings: BrokerSettings, tmp_path: Path) -> None:
    body = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    broker = EmbeddedBroker(_with(settings, program=program(tmp_path / "killed", body)), GATEWAY, [])
    with pytest.raises(BrokerError, match="status -9"), capture_logs() as logs:
        await broker.start()
    assert len([entry for entry in logs if entry["event"] == "broker_died"]) == START_KILLS_MAX


async def test_a_server_that_outlives_its_gateway_keeps_the_next_one_from_its_store(
    settings: BrokerSettings,
) -> None:
    broker = EmbeddedBroker(settings, GATEWAY, [])
    await broker.start()
    config = broker.config_path.read_bytes()
    broker._folder_claim.release()  # as if this process had ended: the server holds the lock as well
    other = EmbeddedBroker(BrokerSettings(port=free_port(), folder=settings.folder), GATEWAY, [DEVICE])
    with pytest.raises(BrokerError, match="another gateway runs a broker in this folder"):
        await other.start()
    assert broker.config_path.read_bytes() == config
    await broker.stop()
    await other.start()
    await other.stop()


async def test_what_a_killed_gateway_left_half_written_is_removed(settings: BrokerSettings) -> None:
    settings.folder.mkdir()
    left = settings.folder / ".nats-server.conf.abc123"
    left.write_text("verifiers")
    async with running(settings):
        assert not left.exists()


async def test_a_missing_program_is_named(settings: BrokerSettings, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no such program") as caught:
        await EmbeddedBroker(_with(settings, program=tmp_path / "none"), GATEWAY, []).start()
    assert "broker.program" in caught.value.where


def test_the_wheels_server_is_found() -> None:
    assert os.access(find_server(None), os.X_OK)


async def test_a_reload_is_confirmed(settings: BrokerSettings) -> None:
    async with running(settings) as broker:
        with capture_logs() as logs:
            await broker.reload([DEVICE, make_device_credential("dbbbbbbbbbbbbbbbb", "b" * 43)])
        assert [entry["devices"] for entry in logs if entry["event"] == "broker_reloaded"] == [2]
        assert broker.restarts == 0


async def test_a_refused_list_changes_nothing(settings: BrokerSettings) -> None:
    async with running(settings) as broker:
        before = broker.config_path.read_bytes()
        with pytest.raises(BrokerError, match="given twice"):
            await broker.reload([DEVICE, DEVICE])
        assert broker.config_path.read_bytes() == before


async def test_a_list_given_while_it_is_down_holds_at_its_next_start(settings: BrokerSettings) -> None:
    broker = EmbeddedBroker(settings, GATEWAY, [DEVICE])
    await broker.reload([])
    await broker.start()
    assert DEVICE.device_id not in broker.config_path.read_text()
    await broker.stop()


async def test_reloads_wait_for_each_other(settings: BrokerSettings) -> None:
    async with running(settings) as broker:
        lists = [[make_device_credential("d" + letter * 16, letter * 43)] for letter in "abcdefgh"]
        await asyncio.gather(*(broker.reload(each) for each in lists))
        assert "dhhhhhhhhhhhhhhhh" in broker.config_path.read_text()


async def test_a_killed_gateway_leaves_no_broker(settings: BrokerSettings) -> None:
    """The kernel ends the server when the process that started it is killed without warning."""
    code = (
        f"import asyncio, sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from surge_host.mqtt_credentials import make_gateway_credential\n"
        "from surge_gateway.broker.embedded import EmbeddedBroker\n"
        "from surge_gateway.broker.settings import BrokerSettings\n"
        "async def main():\n"
        f"    settings = BrokerSettings(port={settings.port}, folder=Path({str(settings.folder)!r}))\n"
        "    gateway = make_gateway_credential('gaaaaaaaaaaaaaaaa', 'g' * 43)\n"
        "    broker = EmbeddedBroker(settings, gateway, [])\n"
        "    await broker.start()\n"
        "    sys.stderr.write(f'pid={broker.pid}\\n')\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stderr is not None
    line = await process.stderr.readline()
    pid = int(line.removeprefix(b"pid="))
    broker = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)  # even one that hangs
    process.kill()
    await process.wait()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(broker, ended.set)  # a pidfd is readable once the process has ended
    await ended.wait()
    asyncio.get_running_loop().remove_reader(broker)
    os.close(broker)


def _with(settings: BrokerSettings, **changes: object) -> BrokerSettings:
    return BrokerSettings(**{**vars(settings), **changes})  # type: ignore[arg-type]
