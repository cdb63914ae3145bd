"""How many messages a second each MQTT client takes in: the measurement that chose the gateway's client.

    python tests/bench/ingress_clients.py [--messages 60000] [--runs 3] [--brokers nats mosquitto]
                                          [--json FILE]

One publisher process (a raw socket, so that it is never the slowest part) sends messages of 120 bytes at QoS
0 to a real broker; one subscriber process receives them with one client. Measured in the subscriber, from the
first message to the last: messages per second of wall time, and per second of its own CPU time. On a machine
whose cores broker and publisher need too, the second is what tells clients apart. Absolute figures mean
little elsewhere: the table also gives each client's ratio to paho-mqtt in the same run, on the same broker.
The last line is one JSON object.

`surge` is the gateway's own link, gmqtt inside. A client that isn't installed is reported as absent (awscrt
is optional: `pip install awscrt`).
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
_ROOT = _TESTS.parent
for _folder in ("protocol", "gateway", "tools"):
    sys.path.insert(0, str(_ROOT / _folder))
sys.path.insert(0, str(_TESTS / "contract"))

import brokers  # noqa: E402
import structlog  # noqa: E402

CLIENTS = {"paho": "paho.mqtt", "aiomqtt": "aiomqtt", "gmqtt": "gmqtt", "awscrt": "awscrt", "surge": "gmqtt"}
BASELINE = "paho"
PAYLOAD = bytes(120)
END = b"end"
DEVICE = "dbbbbbbbbbbbbbbbb"
TOPIC = f"surge/1/{DEVICE}/report"
FILTER = "surge/1/+/report"
CHUNK_MESSAGES = 400
RUN_TIMEOUT_S = 120


class Meter:
    """Counts messages; notes wall and CPU time at the first and the last."""

    def __init__(self, messages: int, on_end: Callable[[], object]) -> None:
        self._messages = messages
        self._on_end = on_end
        self.count = 0

    def take(self, payload: bytes) -> None:
        if self.count == 0:
            self.began_s, self.began_cpu_s = time.perf_counter(), time.process_time()
        if payload == END:
            self._end()
            return
        self.count += 1

    def _end(self) -> None:
        self.wall_s = time.perf_counter() - self.began_s
        self.cpu_s = time.process_time() - self.began_cpu_s
        self._on_end()

    def result(self) -> dict[str, float]:
        return {
            "received": self.count,
            "lost": self._messages - self.count,
            "per_s": self.count / self.wall_s,
            "per_cpu_s": self.count / self.cpu_s,
        }


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def ready() -> None:
    say("ready")


# --- subscribers: each runs alone in a process ---------------------------------------------------------


def subscribe_paho(port: int, messages: int) -> Meter:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id="bench")
    meter = Meter(messages, client.disconnect)
    client.username_pw_set(brokers.GATEWAY_ID, brokers.GATEWAY_PASSWORD)
    client.on_connect = lambda *_: client.subscribe(FILTER)
    client.on_subscribe = lambda *_: ready()
    client.on_message = lambda _client, _data, message: meter.take(message.payload)
    client.connect(brokers.HOST, port)
    client.loop_forever()
    return meter


async def subscribe_aiomqtt(port: int, messages: int) -> Meter:
    import aiomqtt

    ended = False

    def end() -> None:
        nonlocal ended
        ended = True

    meter = Meter(messages, end)
    async with aiomqtt.Client(
        brokers.HOST, port, username=brokers.GATEWAY_ID, password=brokers.GATEWAY_PASSWORD, identifier="bench"
    ) as client:
        await client.subscribe(FILTER)
        ready()
        async for message in client.messages:
            meter.take(bytes(message.payload))
            if ended:
                break
    return meter


async def subscribe_gmqtt(port: int, messages: int) -> Meter:
    import gmqtt
    from gmqtt.mqtt.constants import MQTTv311

    end, subscribed = asyncio.Event(), asyncio.Event()
    meter = Meter(messages, end.set)
    client = gmqtt.Client("bench")
    client.set_auth_credentials(brokers.GATEWAY_ID, brokers.GATEWAY_PASSWORD)
    client.on_message = lambda _client, _topic, payload, _qos, _properties: meter.take(payload)
    client.on_subscribe = lambda *_: subscribed.set()
    await client.connect(brokers.HOST, port, version=MQTTv311)
    client.subscribe(FILTER)
    await subscribed.wait()
    ready()
    await end.wait()
    await client.disconnect()
    return meter


def subscribe_awscrt(port: int, messages: int) -> Meter:
    import threading

    from awscrt import io, mqtt

    end = threading.Event()
    meter = Meter(messages, end.set)
    bootstrap = io.ClientBootstrap(io.EventLoopGroup(1), io.DefaultHostResolver(io.EventLoopGroup(1)))
    connection = mqtt.Connection(
        mqtt.Client(bootstrap),
        host_name=brokers.HOST,
        port=port,
        client_id="bench",
        clean_session=True,
        username=brokers.GATEWAY_ID,
        password=brokers.GATEWAY_PASSWORD,
        disable_metrics=True,  # by default it writes its version behind the user's name
    )
    connection.connect().result(30)
    subscribed, _ = connection.subscribe(
        FILTER, mqtt.QoS.AT_MOST_ONCE, lambda topic, payload, **_: meter.take(payload)
    )
    subscribed.result(30)
    ready()
    end.wait()
    connection.disconnect().result(30)
    return meter


async def subscribe_surge(port: int, messages: int) -> Meter:
    from surge_gateway.mqtt import MqttLink, MqttSettings
    from surge_host.settings_values import Secret

    end = asyncio.Event()
    meter = Meter(messages, end.set)
    settings = MqttSettings(port=port, user=brokers.GATEWAY_ID, password=Secret(brokers.GATEWAY_PASSWORD))
    link = MqttLink(settings, lambda _topic, payload, _retained: meter.take(payload))
    run = asyncio.create_task(link.run())
    await link.connected.wait()
    ready()
    await end.wait()
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    return meter


def subscriber(client: str, port: int, messages: int) -> None:
    function = globals()[f"subscribe_{client}"]
    outcome = function(port, messages)
    meter = asyncio.run(outcome) if asyncio.iscoroutine(outcome) else outcome
    say(json.dumps(meter.result()))


# --- publisher --------------------------------------------------------------------------------------------


def publisher(port: int, messages: int) -> None:
    """Connects as a device, writes everything, and waits until the broker has read it all."""
    packet = _publish(PAYLOAD)
    chunk = packet * CHUNK_MESSAGES
    with socket.create_connection((brokers.HOST, port)) as connection:
        fields = ("bench-publisher", DEVICE, brokers.password_of(DEVICE))
        body = b"\x00\x04MQTT\x04\xc2\x00\x00" + b"".join(
            struct.pack("!H", len(field)) + field.encode() for field in fields
        )
        connection.sendall(bytes([0x10, len(body)]) + body)
        stream = connection.makefile("rb")
        if stream.read(4) != b"\x20\x02\x00\x00":
            raise SystemExit("the broker refused the publisher")
        for _ in range(messages // CHUNK_MESSAGES):
            connection.sendall(chunk)
        connection.sendall(packet * (messages % CHUNK_MESSAGES) + _publish(END) + b"\xc0\x00")
        stream.read(2)  # PINGRESP


def _publish(payload: bytes) -> bytes:
    body = struct.pack("!H", len(TOPIC)) + TOPIC.encode() + payload
    length = len(body)
    header = bytes([0x30, length]) if length < 128 else bytes([0x30, length % 128 | 0x80, length // 128])
    return header + body


# --- the measurement --------------------------------------------------------------------------------------


def measure(client: str, port: int, messages: int) -> dict[str, float]:
    me = [sys.executable, str(Path(__file__))]
    common = ["--port", str(port), "--messages", str(messages)]
    with subprocess.Popen(
        [*me, "--role", "subscriber", "--client", client, *common], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{client}: no subscription")
            subprocess.run([*me, "--role", "publisher", *common], check=True, timeout=RUN_TIMEOUT_S)
            out, _ = process.communicate(timeout=RUN_TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
    result: dict[str, float] = json.loads(out)
    return result


async def compare(kind: str, clients: list[str], messages: int, runs: int) -> dict[str, dict[str, float]]:
    collected: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    with tempfile.TemporaryDirectory() as folder:
        async with brokers.running(kind, Path(folder), [brokers.credential_of(DEVICE)]) as broker:
            for _ in range(runs):  # in turns, so that other load on the machine meets all of them
                for client in clients:
                    collected[client].append(await asyncio.to_thread(measure, client, broker.port, messages))
    return {
        client: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for client, results in collected.items()
    }


def report(kind: str, results: dict[str, dict[str, float]]) -> None:
    base = results[BASELINE]
    say(f"\n{kind:10} {'msgs/s':>10} {'ratio':>6} {'msgs/CPU-s':>11} {'ratio':>6} {'lost':>6}")
    for client, result in results.items():
        say(
            f"{client:10} {result['per_s']:>10,.0f} {result['per_s'] / base['per_s']:>6.2f}"
            f" {result['per_cpu_s']:>11,.0f} {result['per_cpu_s'] / base['per_cpu_s']:>6.2f}"
            f" {result['lost']:>6,.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--brokers", nargs="+", choices=brokers.KINDS, default=list(brokers.KINDS))
    parser.add_argument("--json", type=Path, help="also write the JSON here")
    parser.add_argument("--role", choices=("subscriber", "publisher"), help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # stdout is for figures
    if options.role == "subscriber":
        subscriber(options.client, options.port, options.messages)
        return
    if options.role == "publisher":
        publisher(options.port, options.messages)
        return
    here = [client for client, module in CLIENTS.items() if importlib.util.find_spec(module.split(".")[0])]
    absent = [client for client in CLIENTS if client not in here]
    for client in absent:
        say(f"{client}: not installed, left out")
    outcome: dict[str, Any] = {"messages": options.messages, "runs": options.runs, "absent": absent}
    for kind in options.brokers:
        outcome[kind] = asyncio.run(compare(kind, here, options.messages, options.runs))
        report(kind, outcome[kind])
    text = json.dumps(outcome)
    if options.json:
        options.json.write_text(text + "\n")
    say(text)


if __name__ == "__main__":
    main()
