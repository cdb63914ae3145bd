"""Who may say and hear what: every user, every action, every topic, on both brokers.

The table below is written by hand. What really happens is seen by an observer that may see everything: on
nats-server a client of its own protocol, on Mosquitto one that may read `#` and `$SYS/#`. That nothing came
is shown by a sentinel, sent after the forbidden thing, that did come; that the observer sees at all, by the
allowed cells, each of which has to arrive.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from surge_gateway.broker import embedded
from surge_host.mqtt_credentials import make_device_credential

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

import brokers
from device_client import REFUSED, WAIT_S, DeviceClient
from nats_core import NatsCore, listening_ports

A = "dbbbbbbbbbbbbbbbb"
B = "dcccccccccccccccc"
UNKNOWN = "ddddddddddddddddd"
REMOVED = "deeeeeeeeeeeeeeee"
GATEWAY = brokers.GATEWAY_ID
OBSERVER = "observer"
OBSERVER_PASSWORD = "O" * 43
LONG = "x" * 6_000

# --- the table: what is allowed; all else is not ----------------------------------------------------------

MAY_PUBLISH = {
    A: {f"surge/1/{A}/report", f"surge/1/{A}/state"},
    B: {f"surge/1/{B}/report", f"surge/1/{B}/state"},
    GATEWAY: {
        f"surge/1/{device}/{channel}" for device in (A, B, UNKNOWN, GATEWAY) for channel in ("ack", "command")
    }
    | {"surge/1/*/command"},  # whatever the one level says; nobody hears it
}
MAY_HEAR = {
    A: {f"surge/1/{A}/ack", f"surge/1/{A}/command"},
    B: {f"surge/1/{B}/ack", f"surge/1/{B}/command"},
    GATEWAY: {
        f"surge/1/{device}/{channel}"
        for device in (A, B, UNKNOWN, GATEWAY)
        for channel in ("report", "state")
    }
    | {f"surge/1/{A.upper()}/report"},  # which the gateway itself refuses: no id has that form
}
# Filters that are granted as they stand: what may be heard through them has to be heard.
GRANTED_FILTERS = {
    A: {f"surge/1/{A}/ack", f"surge/1/{A}/command"},
    B: {f"surge/1/{B}/ack", f"surge/1/{B}/command"},
    GATEWAY: {"surge/1/+/report", "surge/1/+/state"},
}

# --- what is tried ----------------------------------------------------------------------------------------

OURS = [
    f"surge/{version}/{device}/{channel}"
    for version in ("1", "2")
    for device in (A, B, UNKNOWN, GATEWAY)
    for channel in ("report", "state", "ack", "command")
]
ODD = [
    f"surge/1/{A}",
    f"surge/1/{A}/",
    f"surge/1/{A}/report/",
    f"surge/1/{A}/report/more",
    f"surge/1/{A}/Report",
    f"surge/1/{A.upper()}/report",
    f"surge/1/{A}/other",
    f"/surge/1/{A}/report",
    f"surge//1/{A}/report",
    f"surge/1//{A}/report",
    f"surge/01/{A}/report",
    f"Surge/1/{A}/report",
    f"surge.1.{A}.report",
    f"surge.1.{B}.command",
    f"surge/1/{B}.command",
    f"surge/1/{A}/report.more",
    f"surge/1/{A} /report",
    f"surge/1/{B}/command ",
    "surge/1/*/command",
    "surge/1/>",
    ">",
    "*",
    "surge",
    "surge/1",
    "/",
    "//",
    "a",
    f"$share/x/surge/1/{B}/command",
    f"surge/1/{B}/\u00e4ck",
    f"surge/1/{B}/ac\u212a",
    f"surge/1/{B}/" + LONG,
    "$SYS/broker/log",
    "$SYS.REQ.SERVER.PING",
    "$SYS/REQ/SERVER/PING",
    "$JS/API/STREAM/DELETE/$MQTT_msgs",
    "$JS/API/INFO",
    "$JS.API.INFO",
    f"$MQTT/msgs/surge/1/{B}/command",
    f"$MQTT/rmsgs/surge/1/{B}/state",
    "$MQTT/sess/x",
    "$MQTT/sub/x",
    "_INBOX/x",
    "_INBOX.x",
    "_R_/x",
]
PUBLISHED = [*OURS, *ODD]
FILTERS = [
    *OURS,
    "#",
    "+",
    "+/+",
    "+/#",
    "+/+/+/+",
    "/#",
    "surge/#",
    "surge/+/#",
    "surge/1/#",
    "surge/1/+",
    "surge/1/+/#",
    "surge/1/+/+",
    "surge/1/+/report",
    "surge/1/+/state",
    "surge/1/+/ack",
    "surge/1/+/command",
    f"surge/1/{A}/#",
    f"surge/1/{A}/+",
    f"surge/1/{B}/#",
    f"surge/1/{B}/+",
    f"surge/+/{B}/command",
    f"+/1/{B}/command",
    f"surge/1/{B}/command/#",
    f"$share/all/surge/1/{B}/command",
    "$share/all/surge/1/+/command",
    "$share/all/#",
    "surge/1/*/command",
    "surge/1/>",
    ">",
    "*",
    "*/>",
    f"surge.1.{B}.command",
    f"surge/1/{B}.command",
    "$SYS/#",
    "$SYS/broker/#",
    "$SYS.>",
    "$JS/#",
    "$JS/API/#",
    "$MQTT/#",
    "$MQTT/sub/#",
    "$MQTT/msgs/#",
    f"$MQTT/msgs/surge/1/{B}/command",
    "_INBOX/#",
    "_INBOX.>",
    "+/sub/#",
    f"surge/1/{B}/" + LONG,
]


class Observer:
    """Sees what was published, whoever may read it. Payloads are all different; a set of them will do."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._arrived = asyncio.Event()

    def take(self, payload: bytes) -> None:
        # nats-server puts headers before what it stores; the payload is the last line.
        self.seen.add(payload.rpartition(b"\n")[2])
        self._arrived.set()

    async def until(self, payload: bytes) -> None:
        async with asyncio.timeout(WAIT_S):
            while payload not in self.seen:
                self._arrived.clear()
                await self._arrived.wait()


class Mosquitto(brokers.MosquittoBroker):
    """With one more user, who may do everything."""

    def _write(self) -> None:
        super()._write()
        verifier = make_device_credential(A, OBSERVER_PASSWORD).pbkdf2_sha512
        folder = self.folder / "mosquitto"
        with (folder / "passwords").open("a") as file:
            file.write(f"{OBSERVER}:{verifier}\n")
        with (folder / "acl").open("a") as file:
            file.write(f"\nuser {OBSERVER}\ntopic readwrite #\ntopic readwrite $SYS/#\n")


class Site:
    """A broker, its observer, and clients that are closed at the end."""

    def __init__(self, broker: brokers.TestBroker, kind: str) -> None:
        self.broker = broker
        self.kind = kind
        self.observer = Observer()
        self.count = 0
        self._made: list[DeviceClient] = []

    def client(self, user: str | None, password: str | None = None, **options: Any) -> DeviceClient:
        if password is None and user is not None:
            password = {GATEWAY: brokers.GATEWAY_PASSWORD, OBSERVER: OBSERVER_PASSWORD}.get(
                user, brokers.password_of(user)
            )
        made = DeviceClient(self.broker.port, user=user, password=password, **options)
        self._made.append(made)
        return made

    def payload(self) -> bytes:
        self.count += 1
        return b"payload %d." % self.count

    async def close(self) -> None:
        for client in self._made:
            await client.close()

    async def sentinel(self, publisher: DeviceClient, topic: str) -> None:
        """Returns when the observer saw what ``publisher`` sends now."""
        payload = self.payload()
        await publisher.publish(topic, payload)
        await self.observer.until(payload)


@pytest.fixture(params=brokers.KINDS)
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    render = embedded.render_nats_config

    def with_observer(*arguments: Any) -> str:
        config = json.loads(render(*arguments))
        config["authorization"]["users"].append({"user": OBSERVER, "password": OBSERVER_PASSWORD})
        return json.dumps(config, indent=1)

    monkeypatch.setattr(embedded, "render_nats_config", with_observer)
    broker = Mosquitto(tmp_path) if request.param == "mosquitto" else brokers.NatsBroker(tmp_path)
    devices = [brokers.credential_of(device) for device in (A, B, REMOVED)]
    await broker.start(devices)
    try:
        async with contextlib.AsyncExitStack() as stack:
            site = Site(broker, request.param)
            stack.push_async_callback(site.close)
            await observe(site, stack)
            yield site
    finally:
        await broker.stop()


async def observe(site: Site, stack: contextlib.AsyncExitStack) -> None:
    queue: asyncio.Queue[Any]
    if site.kind == "nats":
        core = NatsCore(core_port(site))
        stack.push_async_callback(core.close)
        assert await core.connect({"user": OBSERVER, "pass": OBSERVER_PASSWORD}) == "PONG"
        await core.subscribe_to_all()
        queue = core.messages
    else:
        client = await site.client(OBSERVER).connected()
        assert await client.subscribe("#", 0) == 0
        assert await client.subscribe("$SYS/#", 0) == 0
        queue = client._messages

    async def feed() -> None:
        while True:
            site.observer.take((await queue.get())[1])

    feeding = asyncio.create_task(feed(), name="observer")

    async def end() -> None:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding

    stack.push_async_callback(end)


def core_port(site: Site) -> int:
    assert isinstance(site.broker, brokers.NatsBroker)
    pid = site.broker.embedded.pid
    assert pid is not None
    (port,) = set(listening_ports(pid)) - {site.broker.port}
    return port


async def try_publish(site: Site, user: str, qos: int, retain: bool) -> dict[str, bytes]:
    """Publishes to every topic; a client that is thrown out comes again. topic -> payload."""
    home = sorted(MAY_PUBLISH[user])[0]
    client = await site.client(user).connected()
    sent = {}
    for topic in PUBLISHED:
        sent[topic] = site.payload()
        await client.publish_or_lose(topic, sent[topic], qos, retain)
        if client.disconnected.is_set():
            client = await site.client(user).connected()
    await site.sentinel(client, home)
    return sent


async def try_wills(site: Site, user: str) -> dict[str, bytes]:
    """A will on every topic; the broker may refuse it at CONNECT, or drop it when it comes to that."""
    home = sorted(MAY_PUBLISH[user])[0]
    sent = {}
    for topic in PUBLISHED:
        sent[topic] = site.payload()
        client = site.client(user, will=(topic, sent[topic], 1, True))
        if await client.connect() == 0:
            client.cut()
            await client.disconnected.wait()
        if topic in MAY_PUBLISH[user]:
            await site.observer.until(sent[topic])
    # Wills go out when the broker notices: one that is allowed and is cut last comes last.
    last = site.payload()
    client = await site.client(user, will=(home, last, 1, False)).connected()
    client.cut()
    await site.observer.until(last)
    await site.sentinel(await site.client(user).connected(), home)
    return sent


def wrong(site: Site, user: str, action: str, sent: dict[str, bytes]) -> list[str]:
    """The cells in which the table and the observer differ."""
    found = []
    for topic, payload in sent.items():
        if (payload in site.observer.seen) != (topic in MAY_PUBLISH[user]):
            arrived = "arrived" if payload in site.observer.seen else "did not arrive"
            found.append(f"{user} {action} {topic[:60]!r} {arrived}")
    return found


@pytest.mark.threat(17)
async def test_who_may_say_what(site: Site) -> None:
    mismatches = []
    for user in MAY_PUBLISH:
        for qos, retain in ((0, False), (1, False), (0, True), (1, True)):
            sent = await try_publish(site, user, qos, retain)
            mismatches += wrong(site, user, f"publish QoS {qos} retain {retain}", sent)
        mismatches += wrong(site, user, "will", await try_wills(site, user))
    assert not mismatches, "\n".join(mismatches)
    # What is kept for later comers is what was allowed, and no more.
    late = await site.client(OBSERVER).connected()
    assert await late.subscribe("#", 0) == 0
    await late.publish("the/end", b"the end")
    kept = set()
    while (message := await late.next_message())[1] != b"the end":
        kept.add(message[0])
    assert kept == set().union(*MAY_PUBLISH.values())


@pytest.mark.threat(17)
async def test_who_may_hear_what(site: Site) -> None:
    """Live and retained messages, at both qualities of service, through every filter."""
    speaker = await site.client(OBSERVER).connected()
    said = [topic for topic in PUBLISHED if not topic.startswith(("$SYS", "$JS", "$MQTT", "$share", "_"))]
    said = [topic for topic in said if not set(topic) & set("+# ")]
    for topic in said:
        await speaker.publish_or_lose(topic, b"kept " + topic.encode(), 1, True)
    mismatches = []
    for user, home in ((A, f"surge/1/{A}/ack"), (B, f"surge/1/{B}/ack"), (GATEWAY, f"surge/1/{A}/state")):
        for qos in (0, 1):
            # nats-server has few subscriptions a connection, Mosquitto one connection a user.
            groups = [[text] for text in FILTERS] if site.kind == "nats" else [FILTERS]
            listeners = [(group, await listener(site, user, [home, *group], qos)) for group in groups]
            for topic in said:
                await speaker.publish_or_lose(topic, b"live " + topic.encode(), qos)
            await speaker.publish(home, b"sentinel", qos)
            for group, client in listeners:
                heard = await heard_until_sentinel(client)
                leaked = heard - MAY_HEAR[user]
                mismatches += [f"{user} hears {topic[:60]!r} through {group[0][:60]!r}" for topic in leaked]
                for text in GRANTED_FILTERS[user].intersection(group):
                    due = {topic for topic in MAY_HEAR[user] if matches(text, topic)}
                    mismatches += [f"{user} doesn't hear {topic!r} through {text!r}" for topic in due - heard]
                await client.close()
    assert not mismatches, "\n".join(mismatches)


async def listener(site: Site, user: str, filters: list[str], qos: int) -> DeviceClient:
    """A client with these subscriptions, but for those that cost it its connection."""
    possible = list(filters)
    while True:
        client = await site.client(user).connected()
        for text in possible:
            await client.subscribe_or_lose(text, qos)
            if client.disconnected.is_set():
                possible.remove(text)
                break
        else:
            return client


async def heard_until_sentinel(client: DeviceClient) -> set[str]:
    heard = set()
    while (message := await client.next_message())[1] != b"sentinel":
        heard.add(message[0])
    return heard


def matches(text: str, topic: str) -> bool:
    wanted, levels = text.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(
        one in ("+", level) for one, level in zip(wanted, levels, strict=True)
    )


@pytest.mark.threat(17)
async def test_who_is_nobody_gets_in_nowhere(site: Site) -> None:
    """Nor does a will that came with a CONNECT which was refused go out."""
    await site.broker.reload([brokers.credential_of(device) for device in (A, B)])
    nobody: list[tuple[str | None, str | None]] = [
        (REMOVED, None),
        (UNKNOWN, None),
        (None, None),
        ("", ""),
        (A, "x" * 43),
        (A, brokers.password_of(B)),
        (A, ""),
        (A.upper(), brokers.password_of(A)),
        (A + " ", brokers.password_of(A)),
        (A[:-1] + "*", brokers.password_of(A)),
        (GATEWAY, brokers.password_of(A)),
        ("*", "x"),
        ("+", "x"),
        ("$MQTT", ""),
        ("x" * 6_000, "x"),
        (A, "x" * 6_000),
    ]
    sent = []
    for user, password in nobody:
        payload = site.payload()
        sent.append(payload)
        client = site.client(user, password, will=(f"surge/1/{A}/report", payload, 1, True))
        assert await client.connect() in REFUSED, (user, password)
    await site.sentinel(await site.client(A).connected(), f"surge/1/{A}/report")
    assert not site.observer.seen & set(sent)


@pytest.mark.threat(17)
async def test_natss_own_port_is_for_nobody(site: Site) -> None:
    """It is on loopback, refuses every user that MQTT knows, and there is no third port: no monitoring."""
    if site.kind != "nats":
        assert isinstance(site.broker, Mosquitto)
        assert site.broker._process is not None
        assert set(listening_ports(site.broker._process.pid)) == {site.broker.port}
        return
    assert isinstance(site.broker, brokers.NatsBroker)
    assert site.broker.embedded.pid is not None
    ports = listening_ports(site.broker.embedded.pid)
    assert len(ports) == 2
    assert set(ports.values()) == {"0100007F"}  # 127.0.0.1
    port = core_port(site)
    credentials: Sequence[dict[str, str]] = [
        {},
        {"user": A, "pass": brokers.password_of(A)},
        {"user": GATEWAY, "pass": brokers.GATEWAY_PASSWORD},
        {"user": A, "pass": ""},
        {"user": "$MQTT", "pass": ""},
        {"user": "sys", "pass": "sys"},
        {"auth_token": brokers.password_of(A)},
        {"jwt": "x", "sig": "x"},
    ]
    for options in credentials:
        client = NatsCore(port)
        assert "Authorization Violation" in await client.connect(options), options
        await client.close()
