"""Devices come and go with the backend's word; commands reach their devices until they are executed."""

import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_clock import FakeClock
from gateway_files import SimulatedFiles
from gateway_http import TOKEN, TestBackend, running_backend
from gateway_reports import make_device

from surge_gateway.backend_client import AnswerInvalid, BackendClient, Refusal, Unavailable
from surge_gateway.broker.errors import BrokerError
from surge_gateway.counters import Counters
from surge_gateway.devices import Devices
from surge_gateway.dispatch import PUBLISHES_MAX, Dispatch
from surge_gateway.registry import Registry
from surge_host.mqtt_credentials import DeviceCredential
from surge_wire.command import RESTART, Command, seal_command


class Rig:
    def __init__(self, backend: TestBackend, http: httpx.AsyncClient) -> None:
        self.backend = backend
        backend.enrol({"public_key": "A" * 43}, "an-enrolment-token")
        self.disk = SimulatedFiles()
        self.clock = FakeClock()
        self.client = BackendClient(http, backend.url, TOKEN, self.clock)
        self.reloads: list[list[str]] = []
        self.reload_fails = False
        self.published: list[tuple[str, bytes, int]] = []
        self.devices = Devices(10)
        self.registry = self.make_registry()
        self.dispatch = Dispatch(
            self.client, self.devices, self.publish, self.clock, Counters(), poll_s=5, republish_s=30
        )

    def make_registry(self) -> Registry:
        return Registry(
            self.client,
            self.devices,
            self.disk,
            Path("state"),
            self.on_disk,
            self.clock,
            self.reload,
            poll_s=5,
        )

    async def on_disk(self, work: Callable[[], Any]) -> Any:
        return work()

    async def reload(self, credentials: Sequence[DeviceCredential]) -> None:
        if self.reload_fails:
            raise BrokerError("no", "here", "wait")
        self.reloads.append([credential.device_id for credential in credentials])

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool:
        self.published.append((topic, payload, qos))
        return True


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    with running_backend() as backend:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            yield Rig(backend, http)


async def test_devices_are_enrolled_once_the_backend_names_them(rig: Rig) -> None:
    one, two = make_device(1), make_device(2)
    rig.backend.add_device(one)
    rig.backend.add_device(two, "frozen")
    await rig.registry.poll()
    assert one.topic in rig.devices.by_report_topic
    assert two.topic in rig.devices.by_report_topic
    assert rig.reloads == [[one.device_id, two.device_id]]
    await rig.registry.poll()
    assert len(rig.reloads) == 1  # nothing changed


async def test_a_retired_device_may_not_connect_any_more(rig: Rig) -> None:
    device = make_device(1)
    rig.backend.add_device(device)
    await rig.registry.poll()
    rig.backend.add_device(device, "retired")
    await rig.registry.poll()
    assert rig.devices.by_report_topic == {}
    assert rig.reloads[-1] == []


async def test_a_gateway_starts_from_the_cache_without_the_backend(rig: Rig) -> None:
    device = make_device(1)
    rig.backend.add_device(device)
    await rig.registry.poll()
    rig.devices = Devices(10)
    registry = rig.make_registry()
    registry.load()
    assert device.topic in rig.devices.by_report_topic
    assert [credential.device_id for credential in registry.credentials()] == [device.device_id]
    rig.backend.down = True
    with pytest.raises(Unavailable):
        await registry.poll()


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"revision": 1, "devices": [["x"]]}', b'{"devices": 3}'])
async def test_a_damaged_cache_is_asked_anew(rig: Rig, damage: bytes) -> None:
    rig.backend.add_device(make_device(1))
    await rig.registry.poll()
    rig.disk.put(Path("state/registry.cache"), damage)
    registry = rig.make_registry()
    registry.load()
    assert registry.revision == 0
    await registry.poll()
    assert len(registry.credentials()) == 1


@pytest.mark.threat(15)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_an_error_at_any_operation_on_the_cache_is_made_good_in_a_later_round(
    rig: Rig, number: int
) -> None:
    rig.backend.add_device(make_device(1))
    for failing in range(1, 10):
        at = rig.disk.operations + failing
        rig.disk.fail = lambda _operation, _path, at=at: number if rig.disk.operations == at else None
        rig.backend.add_device(make_device(failing + 1))
        with contextlib.suppress(OSError):
            await rig.registry.poll()
        assert len(rig.reloads[-1]) == failing + 1  # who may connect, may
        await rig.registry.poll()
        restarted = rig.make_registry()
        restarted.load()
        assert (restarted.revision, len(restarted.credentials())) == (failing + 1, failing + 1)


async def test_a_failed_reload_is_tried_again(rig: Rig) -> None:
    rig.backend.add_device(make_device(1))
    rig.reload_fails = True
    with pytest.raises(BrokerError):
        await rig.registry.poll()
    rig.reload_fails = False
    await rig.registry.poll()
    assert len(rig.reloads) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"revision": -1, "devices": []}',
        b'{"revision": 1, "devices": [1]}',
        b"[" * 100000,
    ],
)
async def test_a_wrong_answer_changes_nothing(rig: Rig, body: bytes) -> None:
    rig.backend.answers["/v1/gateways/self/devices"] = lambda: (200, "application/json", body, {})
    with pytest.raises(AnswerInvalid):
        await rig.registry.poll()
    assert rig.registry.revision == 0


async def test_a_revoked_token_is_a_refusal(rig: Rig) -> None:
    rig.client._headers = {"Authorization": "Bearer other"}
    with pytest.raises(Refusal, match="401 token_unknown"):
        await rig.registry.poll()


def command(rig: Rig, counter: int, expires_ms: int | None = None) -> tuple[str, bytes]:
    device = make_device(1)
    envelope = seal_command(device.device_id, b"k" * 32, Command(counter, RESTART, None, expires_ms))
    rig.backend.add_command(device.device_id, envelope)
    return device.device_id, envelope


async def test_a_command_goes_out_when_its_device_is_there_until_it_is_executed(rig: Rig) -> None:
    device_id, envelope = command(rig, 5)
    rig.devices.enrol(device_id)
    device = rig.devices.find(device_id)
    assert device is not None
    await rig.dispatch.poll()
    rig.dispatch.send_due()
    assert rig.published == []
    device.online = True
    rig.dispatch.on_device(device)
    rig.dispatch.send_due()
    rig.dispatch.send_due()
    assert rig.published == [(f"surge/1/{device_id}/command", envelope, 1)]
    rig.clock.advance(30)
    rig.dispatch.send_due()
    assert len(rig.published) == 2
    device.command_counter = 5
    rig.clock.advance(30)
    rig.dispatch.send_due()
    assert len(rig.published) == 2
    assert rig.dispatch.waiting_count == 0


async def test_an_expired_command_is_dropped_and_one_that_is_never_executed_is_given_up(rig: Rig) -> None:
    device_id, _ = command(rig, 5, expires_ms=rig.clock.now_ms() - 1)
    command(rig, 6)
    rig.devices.enrol(device_id)
    device = rig.devices.find(device_id)
    assert device is not None
    device.online = True
    await rig.dispatch.poll()
    while rig.dispatch.waiting_count:
        rig.dispatch.send_due()
        rig.clock.advance(30)
    assert len(rig.published) == PUBLISHES_MAX


async def test_a_malformed_command_or_one_for_another_device_is_left_out(rig: Rig) -> None:
    device_id, envelope = command(rig, 5)
    rig.backend.commands.clear()
    rig.backend.add_command(device_id, b"rubbish")
    rig.backend.add_command("dbbbbbbbbbbbbbbbb", envelope)
    await rig.dispatch.poll()
    assert rig.dispatch.waiting_count == 0
