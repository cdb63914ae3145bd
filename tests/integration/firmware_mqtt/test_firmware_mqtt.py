"""The firmware's MQTT client in a real MicroPython against real brokers."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from private_brokers import BROKERS, DEVICE, Broker, Certificate, free_port
from programs import Device, Observer, Program
from proxy import SilentProxy

STATE = "surge/1/dev/state"
REPORT = "surge/1/dev/report"
COMMAND = "surge/1/dev/command"
ACK = "surge/1/dev/ack"
WILL = [STATE, "offline", 1, True]

STALLED_PUBLISHES = 300
RETRIES = 12
HEAP_PUBLISHES = 2000
# What may differ between two moments without growing: the asyncio queues' last garbage, string interning.
HEAP_NOISE_BYTES = 1024

StartBroker = Callable[..., Broker]
StartDevice = Callable[..., Device]
StartObserver = Callable[[int, str], Observer]


def test_messages_go_both_ways_at_both_qos(
    broker: Broker, start_device: StartDevice, start_observer: StartObserver
) -> None:
    observer = start_observer(broker.port, "surge/1/dev/report")
    device = start_device(broker.port, subscriptions=[[ACK, 0], [COMMAND, 1]])
    device.expect("up")
    for qos in (0, 1):
        device.publish(REPORT, f"report {qos}", qos)
        assert observer.next() == (REPORT, f"report {qos}", False)
    observer.publish(ACK, "ack", 0)
    assert device.expect("message") == [ACK, "ack", False]
    observer.publish(COMMAND, "command", 1)
    assert device.expect("message") == [COMMAND, "command", False]
    big = "x" * 4096
    device.publish(REPORT, big, 1)
    assert observer.next() == (REPORT, big, False)
    observer.publish(COMMAND, big, 1)
    assert device.expect("message") == [COMMAND, big, False]
    device.tell("close")
    device.expect("closed")


def test_a_message_that_is_too_long_is_skipped_and_the_link_lives(
    broker: Broker, start_device: StartDevice, start_observer: StartObserver
) -> None:
    observer = start_observer(broker.port, REPORT)
    device = start_device(broker.port, subscriptions=[[COMMAND, 1]])
    device.expect("up")
    observer.publish(COMMAND, "x" * 100_000, 1)
    assert "mqtt.skipped" in device.expect("log")[0]
    observer.publish(COMMAND, "after", 1)
    assert device.expect("message") == [COMMAND, "after", False]


def test_the_last_will_is_retained_when_the_process_is_killed(
    broker: Broker, start_device: StartDevice, start_observer: StartObserver
) -> None:
    observer = start_observer(broker.port, STATE)
    device = start_device(broker.port, will=WILL)
    device.expect("up")
    device.publish(STATE, "online", 1, True)
    assert observer.next() == (STATE, "online", False)
    device.kill()
    assert observer.next() == (STATE, "offline", False)
    assert start_observer(broker.port, STATE).next() == (STATE, "offline", True)


def test_a_clean_close_drops_the_last_will(
    broker: Broker, start_device: StartDevice, start_observer: StartObserver
) -> None:
    observer = start_observer(broker.port, STATE)
    device = start_device(broker.port, will=WILL)
    device.expect("up")
    device.publish(STATE, "resting", 1, True)
    device.tell("close")
    device.expect("closed")
    observer.publish(STATE, "after", 1)
    assert [observer.next()[1] for _ in range(2)] == ["resting", "after"]


def test_a_wrong_password_is_refused_and_waits_longer_each_time(
    broker: Broker, start_device: StartDevice
) -> None:
    device = start_device(broker.port, password="not-this-one")
    waits_ms = []
    while len(waits_ms) < 5:
        said = device.expect("log")[0]
        assert "mqtt.retry" in said
        assert "the broker refused the connection (code " in said
        waits_ms.append(int(said.split("wait_ms=")[1].split()[0]))
    # At least half of 50, 100, 200, 400, 800: the cap of 200 for a lost link does not hold here.
    assert all(wait_ms >= 25 << number for number, wait_ms in enumerate(waits_ms)), waits_ms
    assert "not-this-one" not in "".join(device.lines.seen)


def test_a_subscription_that_the_broker_refuses_is_an_error(
    start_broker: StartBroker, start_device: StartDevice
) -> None:
    broker = start_broker("nats")  # Mosquitto's access list grants it and then delivers nothing
    device = start_device(broker.port)
    device.expect("up")
    device.tell("subscribe", [[ACK, 0], ["surge/1/other/ack", 0]])
    kind, text = device.expect("error")
    assert kind == "MqttSubscribeRefused"
    assert "surge/1/other/ack" in text


@pytest.mark.threat(16)
def test_a_broker_that_comes_back_gets_its_subscriber_back(
    broker: Broker, start_device: StartDevice, start_observer: StartObserver
) -> None:
    device = start_device(broker.port, subscriptions=[[COMMAND, 1]])
    device.expect("up")
    device.tell("subscribe", [[ACK, 1]])
    device.expect("subscribed")
    broker.kill()
    assert device.expect("down")[0] == "MqttLinkLost"
    device.tell("publish", REPORT, "nobody there", 0, False)
    assert device.expect("error")[0] == "MqttLinkLost"
    broker.start()
    device.expect("up")
    observer = start_observer(broker.port, REPORT)
    for topic in (COMMAND, ACK):
        observer.publish(topic, "again", 1)
        assert device.expect("message") == [topic, "again", False]
    device.publish(REPORT, "back", 1)
    assert observer.next() == (REPORT, "back", False)


def test_a_link_that_swallows_everything_is_found_dead(broker: Broker, start_device: StartDevice) -> None:
    proxy = SilentProxy(broker.port)
    try:
        device = start_device(proxy.port, keep_alive_s=4, ping_timeout_ms=1000, ack_timeout_ms=1000)
        device.expect("up")
        proxy.swallow.set()
        assert "no PINGRESP" in device.expect("down")[1]
        proxy.swallow.clear()
        device.expect("up")
    finally:
        device.kill()
        proxy.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x02\x00\x00\xff\xff\xff\xff\xff",
        b"\x20\x02\x00\x00\x30\xff\xff\xff\xff\x7f",
        b"\x20\x02\x00\x00\x20\x02\x00\x00",
        b"\x20\x02\x00\x00\x30\x05\x00\x03a/#",
    ],
    ids=["http", "type", "length", "second connack", "wildcard"],
)
def test_garbage_ends_the_link_and_the_next_one_is_tried(garbage: bytes, start_device: StartDevice) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        device = start_device(server.getsockname()[1])
        for _ in range(3):
            with server.accept()[0] as peer:
                peer.recv(4096)
                peer.sendall(garbage)
                while "mqtt.retry" not in (said := device.expect("log")[0]):
                    pass
                assert "the broker broke the protocol" in said


@pytest.mark.parametrize("name", sorted(BROKERS))
def test_tls_with_a_ca_of_our_own(
    name: str, certificate: Certificate, start_broker: StartBroker, start_device: StartDevice
) -> None:
    broker = start_broker(name, certificate)
    trusted = {"tls": True, "tls_ca_file": str(certificate.authority), "server_hostname": "broker.test"}
    device = start_device(broker.port, **trusted, subscriptions=[[ACK, 1]])
    device.expect("up")
    text = "".join(map(str, range(1300)))  # more than one read takes
    device.tell("publish", ACK, text, 1, False)
    assert device.expect("message") == [ACK, text, False]
    for wrong in (
        {"server_hostname": "other.test"},
        {"server_hostname": None},
        {"tls_ca_file": str(certificate.certificate)},
    ):
        device = start_device(broker.port, **{**trusted, **wrong})
        assert "TLS failed" in device.expect("log")[0]
    device = start_device(broker.port, tls=True, tls_verify=False)
    assert "mqtt.tls_not_verified" in device.expect("log")[0]
    device.expect("up")


@pytest.mark.parametrize(("answers", "reason"), [(True, "ECONNREFUSED"), (False, "did not accept")])
def test_failed_connections_leave_no_descriptor_open(
    answers: bool, reason: str, start_device: StartDevice
) -> None:
    with contextlib.ExitStack() as stack:
        port = free_port() if answers else stack.enter_context(full_listener())
        device = start_device(port, io_timeout_ms=50)
        counts = []
        for _ in range(RETRIES):
            assert reason in device.expect("log")[0]
            counts.append(len(list(Path(f"/proc/{device.process.pid}/fd").iterdir())))
        assert max(counts[1:]) <= counts[0] + 1, counts  # 1: the next attempt's socket


@contextlib.contextmanager
def full_listener() -> Iterator[int]:
    """A port that answers no connection: its queue is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = server.getsockname()[1]
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


def publish_bytes(text: bytes) -> bytes:
    """A QoS 0 PUBLISH to the topic a."""
    body = b"\0\1a" + text
    length = [len(body)] if len(body) < 128 else [len(body) & 127 | 128, len(body) >> 7]
    return bytes([0x30, *length]) + body


def test_a_link_that_takes_nothing_for_a_while_gets_every_byte(
    start_program: Callable[..., Program],
) -> None:
    texts = [b"%04d" % number + b"x" * (number * 7 % 4000) for number in range(STALLED_PUBLISHES)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = start_program("stalled.py", str(server.getsockname()[1]), str(STALLED_PUBLISHES))
        with server.accept()[0] as peer:
            (zeros,) = sender.expect("stalled")
            wanted = bytes(zeros) + b"".join(map(publish_bytes, texts))
            got = bytearray()
            while data := peer.recv(1500):
                got += data
            sender.expect("sent")
            assert bytes(got) == wanted


@pytest.mark.parametrize("name", sorted(BROKERS))
def test_many_publishes_in_a_small_heap(
    name: str,
    start_broker: StartBroker,
    start_observer: StartObserver,
    start_program: Callable[..., Program],
) -> None:
    broker = start_broker(name)
    observer = start_observer(broker.port, REPORT)
    publisher = start_program("heap.py", "127.0.0.1", str(broker.port), *DEVICE, str(HEAP_PUBLISHES))
    (told,) = publisher.expect("heap")
    assert told["heard"] == HEAP_PUBLISHES // 100
    assert told["free_late"] >= told["free_early"] - HEAP_NOISE_BYTES, told
    assert observer.next()[0] == REPORT
