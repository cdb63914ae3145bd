"""What the gateway asks of any MQTT broker, asked of both that Surge supports.

Nothing waits for time to pass. That a message is *not* delivered is shown by a marker: a broker handles what
one connection sends in order, so once a marker that was sent after the forbidden thing has arrived, the
forbidden thing would have arrived before it.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from surge_gateway.broker.errors import BrokerError
from surge_gateway.broker.mosquitto_files import render_acl_file, render_password_file
from surge_gateway.broker.nats_config import render_nats_config
from surge_gateway.broker.settings import BrokerSettings
from surge_gateway.mqtt import MqttLink, MqttSettings
from surge_host.mqtt_credentials import DeviceCredential
from surge_host.settings_values import Secret
from surge_wire.topics import ACK, ALL_REPORTS, COMMAND, REPORT, STATE, topic

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

import brokers
from device_client import REFUSED, WAIT_S, DeviceClient, Message

A = "dbbbbbbbbbbbbbbbb"
B = "dcccccccccccccccc"
C = "ddddddddddddddddd"
MARKER = b"marker"

FOREIGN = [
    (topic(B, REPORT), "another device's report"),
    (topic(B, STATE), "another device's state"),
    (topic(B, ACK), "another device's ack"),
    (topic(B, COMMAND), "another device's command"),
    (topic(A, ACK), "its own ack"),
    (topic(A, COMMAND), "its own command"),
    (topic(brokers.GATEWAY_ID, REPORT), "a report of the gateway"),
    (f"surge/2/{A}/report", "another version"),
    (f"surge/1/{A}/report/more", "below its report"),
    (f"surge/1/{A}", "above its report"),
    ("surge/1/*/report", "a NATS wildcard"),
    ("surge/1/>", "a NATS tail wildcard"),
    (f"surge.1.{B}.report", "a NATS subject"),
    ("$SYS/broker", "the broker's own"),
    (f"$MQTT/msgs/surge/1/{B}/command", "nats-server's message store"),
    (f"$MQTT/rmsgs/surge/1/{B}/state", "nats-server's retained store"),
    ("$JS/API/STREAM/PURGE/$MQTT_msgs", "JetStream's interface"),
    ("/", "empty levels"),
]
FOREIGN_FILTERS = [
    "#",
    "+/#",
    "+/x",
    "/#",
    "surge/#",
    "surge/1/#",
    "surge/1/+/ack",
    "surge/1/+/command",
    "surge/1/+/report",
    f"surge/1/{B}/ack",
    f"surge/1/{B}/command",
    f"surge/1/{B}/#",
    f"surge/1/{A}/report",
    "surge/1/*/ack",
    "surge/1/>",
    ">",
    "$SYS/#",
    "$share/all/surge/1/+/ack",
    "$MQTT/#",
    "$MQTT/sub/#",
    f"$MQTT/msgs/surge/1/{B}/command",
    "$JS/#",
]


class Gateway:
    """The gateway's own link, and what it has received."""

    def __init__(self, port: int) -> None:
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.link = MqttLink(
            MqttSettings(
                port=port,
                user=brokers.GATEWAY_ID,
                password=Secret(brokers.GATEWAY_PASSWORD),
                reconnect_delay_ms=10,
                reconnect_delay_ms_max=100,
            ),
            lambda *message: self.received.put_nowait(message),
        )

    async def next(self) -> Message:
        async with asyncio.timeout(WAIT_S):
            return await self.received.get()

    async def until(self, wanted: Callable[[Message], bool]) -> list[Message]:
        """Everything received up to the message that is `wanted`, which is the last of them."""
        messages = []
        while True:
            messages.append(await self.next())
            if wanted(messages[-1]):
                return messages

    async def until_marker(self) -> list[Message]:
        return (await self.until(lambda message: message[1] == MARKER))[:-1]


@contextlib.asynccontextmanager
async def gateway_of(broker: brokers.TestBroker) -> AsyncIterator[Gateway]:
    gateway = Gateway(broker.port)
    run = asyncio.create_task(gateway.link.run(), name="link under test")
    try:
        await gateway.link.connected.wait()
        yield gateway
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


@pytest.fixture(params=brokers.KINDS)
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[brokers.TestBroker]:
    async with brokers.running(
        request.param, tmp_path, [brokers.credential_of(A), brokers.credential_of(B)]
    ) as it:
        yield it


@pytest.fixture
async def gateway(broker: brokers.TestBroker) -> AsyncIterator[Gateway]:
    async with gateway_of(broker) as it:
        yield it


@pytest.fixture
async def device(broker: brokers.TestBroker) -> AsyncIterator[Callable[..., DeviceClient]]:
    """Makes clients, connected as a device unless told otherwise, and closes them."""
    made = []

    def make(device_id: str = A, **options: Any) -> DeviceClient:
        known = {"user": device_id, "password": brokers.password_of(device_id)}
        client = DeviceClient(broker.port, **{**known, **options})
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


Make = Callable[..., DeviceClient]


# --- who may come in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (A, "x" * 43),
        (A, brokers.password_of(B)),
        (A, ""),
        (C, brokers.password_of(C)),
        ("", ""),
        (None, None),
        (A, None),
        (brokers.GATEWAY_ID, brokers.password_of(A)),
        ("sys", "sys"),
        ("#", "x"),
    ],
)
async def test_nobody_unknown_comes_in(device: Make, user: str | None, password: str | None) -> None:
    assert await device(user=user, password=password).connect() in REFUSED


async def test_a_device_comes_in(device: Make) -> None:
    assert await device(A).connect() == 0


# --- what a device may say --------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_devices_report_reaches_the_gateway(gateway: Gateway, device: Make, qos: int) -> None:
    client = await device(A).connected()
    await client.publish(topic(A, REPORT), b"\x00\xff report", qos)
    assert await gateway.next() == (topic(A, REPORT), b"\x00\xff report", False)


async def test_a_devices_state_is_kept_for_the_next_gateway(broker: brokers.TestBroker, device: Make) -> None:
    client = await device(A).connected()
    await client.publish(topic(A, STATE), b"online", 1, retain=True)
    async with gateway_of(broker) as late:
        assert await late.next() == (topic(A, STATE), b"online", True)


async def test_a_devices_will_is_its_own_state(gateway: Gateway, device: Make) -> None:
    client = await device(A, will=(topic(A, STATE), b"offline", 1, True)).connected()
    client.cut()
    assert (await gateway.next())[:2] == (topic(A, STATE), b"offline")


@pytest.mark.parametrize(("forbidden", "what"), FOREIGN, ids=[what for _, what in FOREIGN])
@pytest.mark.parametrize(("qos", "retain"), [(0, False), (1, False), (1, True)])
@pytest.mark.threat(17)
async def test_a_device_cant_publish_elsewhere(
    broker: brokers.TestBroker, device: Make, forbidden: str, what: str, qos: int, retain: bool
) -> None:
    async with gateway_of(broker) as gateway:
        victim = await device(B).connected()
        await victim.subscribe(topic(B, ACK), 0)
        await victim.subscribe(topic(B, COMMAND), 1)
        hostile = await device(A).connected()
        await hostile.subscribe(topic(A, ACK), 0)
        await hostile.subscribe(topic(A, COMMAND), 1)
        # A broker may answer by closing the connection: then it has dealt with it as well.
        await hostile.publish_or_lose(forbidden, b"forged", qos, retain)
        await victim.publish(topic(B, REPORT), MARKER)
        assert await gateway.until_marker() == []
        for client, own in ((victim, B), (hostile, A)):
            gateway.link.publish(topic(own, ACK), MARKER)
            if not client.disconnected.is_set():
                assert await client.next_message() == (topic(own, ACK), MARKER, False)
    if retain:
        await nothing_is_kept(broker, device)


@pytest.mark.parametrize("forged", [topic(B, STATE), topic(B, REPORT), topic(B, COMMAND), topic(A, COMMAND)])
@pytest.mark.parametrize(("qos", "retain"), [(0, False), (1, True)])
@pytest.mark.threat(17)
async def test_a_will_cant_speak_for_another(
    broker: brokers.TestBroker, device: Make, forged: str, qos: int, retain: bool
) -> None:
    async with gateway_of(broker) as gateway:
        victim = await device(B).connected()
        await victim.subscribe(topic(B, COMMAND), 1)
        await victim.subscribe(topic(B, ACK), 0)
        hostile = device(A, client_id="willing", will=(forged, b"forged", qos, retain))
        if await hostile.connect() == 0:
            hostile.cut()
        # The same client id: the broker is done with the first connection before this one, whose will is the
        # marker.
        allowed = (topic(A, STATE), b"offline", 0, False)
        honest = await device(A, client_id="willing", will=allowed).connected()
        honest.cut()
        assert await gateway.next() == (topic(A, STATE), b"offline", False)
        gateway.link.publish(topic(B, ACK), MARKER)
        assert await victim.next_message() == (topic(B, ACK), MARKER, False)
    if retain:
        await nothing_is_kept(broker, device)


async def nothing_is_kept(broker: brokers.TestBroker, device: Make) -> None:
    """No retained message waits for a gateway or for device B."""
    async with gateway_of(broker) as late:
        victim = await device(B).connected()
        await victim.subscribe(topic(B, COMMAND), 1)
        await victim.subscribe(topic(B, ACK), 0)
        await victim.publish(topic(B, REPORT), MARKER)
        assert await late.until_marker() == []
        late.link.publish(topic(B, ACK), MARKER)
        assert await victim.next_message() == (topic(B, ACK), MARKER, False)


async def test_a_retained_report_is_only_a_duplicate(broker: brokers.TestBroker, device: Make) -> None:
    """A device may retain its own report; a gateway that comes later sees it marked as retained."""
    client = await device(A).connected()
    await client.publish(topic(A, REPORT), b"old", 1, retain=True)
    async with gateway_of(broker) as late:
        await client.publish(topic(A, REPORT), MARKER)
        assert await late.until_marker() == [(topic(A, REPORT), b"old", True)]


async def test_an_oversize_publish_costs_the_device_its_connection_only(
    gateway: Gateway, device: Make
) -> None:
    hostile = await device(A).connected()
    await hostile.publish_or_lose(topic(A, REPORT), b"x" * (brokers.PAYLOAD_BYTES_MAX * 2), 1)
    await hostile.disconnected.wait()
    largest = b"y" * brokers.PAYLOAD_BYTES_MAX
    await (await device(A).connected()).publish(topic(A, REPORT), largest)
    assert await gateway.next() == (topic(A, REPORT), largest, False)


# --- what a device may hear -------------------------------------------------------------------------------


async def test_a_device_hears_its_ack_and_commands(gateway: Gateway, device: Make) -> None:
    client = await device(A).connected()
    await client.subscribe(topic(A, ACK), 0)
    await client.subscribe(topic(A, COMMAND), 1)
    gateway.link.publish(topic(A, ACK), b"ack")
    assert await client.next_message() == (topic(A, ACK), b"ack", False)
    gateway.link.publish(topic(A, COMMAND), b"command", qos=1)
    assert await client.next_message() == (topic(A, COMMAND), b"command", False)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("hostile_filter", FOREIGN_FILTERS)
@pytest.mark.threat(17)
async def test_a_device_hears_nothing_else(
    gateway: Gateway, device: Make, hostile_filter: str, qos: int
) -> None:
    hostile = await device(A).connected()
    await hostile.subscribe(topic(A, ACK), 0)
    # Refused, closed or granted and never served: brokers differ. A closed connection hears nothing either.
    await hostile.subscribe_or_lose(hostile_filter, qos)
    victim = await device(B).connected()
    await victim.subscribe(topic(B, ACK), 0)
    await victim.subscribe(topic(B, COMMAND), 1)
    await victim.publish(topic(B, STATE), b"online", 1, retain=True)
    await victim.publish(topic(B, REPORT), b"report", 1)
    gateway.link.publish(topic(B, COMMAND), b"secret", qos=1)
    gateway.link.publish(topic(B, ACK), b"secret", qos=0)
    heard = {await victim.next_message(), await victim.next_message()}
    assert heard == {(topic(B, COMMAND), b"secret", False), (topic(B, ACK), b"secret", False)}
    gateway.link.publish(topic(A, ACK), MARKER)
    overheard = []
    while not hostile.disconnected.is_set() and MARKER not in (message[1] for message in overheard):
        overheard.append(await hostile.next_message())
    overheard += hostile.messages_so_far()
    assert [message for message in overheard if message[0] != topic(A, ACK)] == []


@pytest.mark.threat(17)
async def test_a_stolen_client_id_gives_nothing_to_hear(gateway: Gateway, device: Make) -> None:
    """A device that takes another's client id, and with it its session, doesn't get what waits in it."""
    victim = await device(B, client_id="known", clean_session=False).connected()
    await victim.subscribe(topic(B, ACK), 0)
    await victim.subscribe(topic(B, COMMAND), 1)
    victim.cut()
    gateway.link.publish(topic(B, COMMAND), b"secret", qos=1)
    thief = await device(A, client_id="known", clean_session=False).connected()
    await thief.subscribe(topic(A, ACK), 0)
    gateway.link.publish(topic(B, ACK), b"secret")
    gateway.link.publish(topic(A, ACK), MARKER)
    assert await thief.next_message() == (topic(A, ACK), MARKER, False)


# --- the gateway's own user ---------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", ["#", "surge/#", f"surge/1/{A}/ack", "surge/1/+/command", "$SYS/#"])
async def test_the_gateway_hears_reports_and_states_only(device: Make, elsewhere: str) -> None:
    user = device(user=brokers.GATEWAY_ID, password=brokers.GATEWAY_PASSWORD)
    await user.connected()
    await user.subscribe(ALL_REPORTS, 0)
    await user.subscribe_or_lose(elsewhere, 0)
    await user.publish_or_lose(topic(A, COMMAND), b"echo", 1)
    await user.publish_or_lose(topic(A, ACK), b"echo", 0)
    await (await device(A).connected()).publish(topic(A, REPORT), MARKER)
    if not user.disconnected.is_set():
        assert await user.next_message() == (topic(A, REPORT), MARKER, False)


@pytest.mark.parametrize("forbidden", [topic(A, REPORT), topic(A, STATE)])
async def test_the_gateway_cant_speak_for_a_device(gateway: Gateway, device: Make, forbidden: str) -> None:
    gateway.link.publish(forbidden, b"forged")
    gateway.link.publish(topic(A, ACK), b"after it")
    client = await device(A).connected()
    await client.subscribe(topic(A, ACK), 0)
    await client.publish(topic(A, REPORT), MARKER)
    assert await gateway.until_marker() == []


# --- ids --------------------------------------------------------------------------------------------------

HOSTILE_IDS = [
    "d/aaaaaaaaaaaaaaa",
    "d+aaaaaaaaaaaaaaa",
    "d#aaaaaaaaaaaaaaa",
    "d*aaaaaaaaaaaaaaa",
    "d>aaaaaaaaaaaaaaa",
    "d.aaaaaaaaaaaaaaa",
    "d aaaaaaaaaaaaaaa",
    "d$aaaaaaaaaaaaaaa",
    'd"aaaaaaaaaaaaaaa',
    "d:aaaaaaaaaaaaaaa",
    "d\naaaaaaaaaaaaaaa",
    "dаaaaaaaaaaaaaaaa",  # noqa: RUF001: the second letter is Cyrillic
    "daaaaaaaaaaaaaaaa\n",
    "dAAAAAAAAAAAAAAAA",
    "+",
    "#",
    ">",
    "*",
    "",
    brokers.GATEWAY_ID,
]


@pytest.mark.parametrize("hostile_id", HOSTILE_IDS)
@pytest.mark.threat(17)
def test_an_id_that_isnt_one_is_never_rendered(hostile_id: str) -> None:
    good = brokers.credential_of(A)
    devices = [good, DeviceCredential(hostile_id, good.bcrypt, good.pbkdf2_sha512)]
    gateway = brokers.make_gateway_credential(brokers.GATEWAY_ID, brokers.GATEWAY_PASSWORD)
    for render in (
        lambda: render_nats_config(BrokerSettings(), gateway, devices),
        lambda: render_password_file(gateway, devices),
        lambda: render_acl_file(gateway, devices),
    ):
        with pytest.raises(BrokerError, match="not a device id"):
            render()


# --- changes and faults -----------------------------------------------------------------------------------


async def test_an_enrolled_device_comes_in_and_others_stay(
    broker: brokers.TestBroker, gateway: Gateway, device: Make
) -> None:
    staying = await device(A).connected()
    assert await device(C).connect() in REFUSED
    await broker.reload([brokers.credential_of(each) for each in (A, B, C)])
    fresh = await device(C).connected()
    await fresh.publish(topic(C, REPORT), b"new here")
    assert await gateway.next() == (topic(C, REPORT), b"new here", False)
    await staying.publish(topic(A, REPORT), b"still here")
    assert await gateway.next() == (topic(A, REPORT), b"still here", False)
    assert not staying.disconnected.is_set()
    assert gateway.link.statistics.reconnects == 0


async def test_a_removed_device_is_thrown_out_and_stays_out(
    broker: brokers.TestBroker, gateway: Gateway, device: Make
) -> None:
    removed, staying = await device(A).connected(), await device(B).connected()
    await broker.reload([brokers.credential_of(B)])
    await removed.disconnected.wait()
    assert await device(A).connect() in REFUSED
    assert not staying.disconnected.is_set()
    await staying.publish(topic(B, REPORT), MARKER)
    assert await gateway.until_marker() == []


@pytest.mark.threat(16)
async def test_the_link_survives_the_brokers_death(
    broker: brokers.TestBroker, gateway: Gateway, device: Make
) -> None:
    await broker.kill()
    # Retained, so that the device hears it whenever it comes back; at QoS 1, so that the link repeats it.
    gateway.link.publish(topic(A, ACK), b"said while it was down", qos=1, retain=True)
    await broker.come_back()
    client = await device(A).connected()
    await client.publish(topic(A, STATE), b"online", 1, retain=True)
    assert (await gateway.next())[:2] == (topic(A, STATE), b"online")
    await gateway.link.connected.wait()
    assert gateway.link.statistics.reconnects == 1
    await client.publish(topic(A, REPORT), b"after the restart")
    assert await gateway.next() == (topic(A, REPORT), b"after the restart", False)
    await client.subscribe(topic(A, ACK), 0)
    assert (await client.next_message())[:2] == (topic(A, ACK), b"said while it was down")


@pytest.mark.threat(16)
async def test_a_burst_of_reports_arrives_in_order_and_whole(gateway: Gateway, device: Make) -> None:
    client = await device(A).connected()
    count = 5_000
    for number in range(count):
        client.publish_soon(topic(A, REPORT), b"%d" % number)
    received = [await gateway.next() for _ in range(count)]
    assert [payload for _, payload, _ in received] == [b"%d" % number for number in range(count)]


async def test_the_filter_of_all_reports_is_the_one_granted() -> None:
    assert ALL_REPORTS == "surge/1/+/report"
