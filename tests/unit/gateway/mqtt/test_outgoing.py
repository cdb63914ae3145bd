"""The bounded queues: what goes first, and what happens at the limits."""

from types import SimpleNamespace

import gmqtt
import pytest
from gmqtt.mqtt.constants import MQTTv311
from gmqtt.mqtt.package import PublishPacket

from surge_gateway.mqtt.outgoing import Outgoing, OutgoingQueues, encode_publish_qos0


def message(number: int, qos: int = 0) -> Outgoing:
    return Outgoing(f"topic/{number}", b"", qos, False)


def taken(queues: OutgoingQueues, in_flight: int = 0) -> list[str]:
    numbers = []
    while (each := queues.take(in_flight)) is not None:
        numbers.append(each.topic.removeprefix("topic/"))
    return numbers


def test_a_full_queue_drops_the_oldest_ack_and_counts_it() -> None:
    queues = OutgoingQueues(qos0_max=3, qos1_max=1, in_flight_max=1)
    assert all(queues.put(message(number), 0) for number in range(5))
    assert (len(queues), queues.dropped) == (3, 2)
    assert taken(queues) == ["2", "3", "4"]


def test_a_full_queue_refuses_the_newest_command() -> None:
    queues = OutgoingQueues(qos0_max=1, qos1_max=3, in_flight_max=9)
    assert queues.put(message(0, 1), 1)
    assert queues.put(message(1, 1), 1)
    assert not queues.put(message(2, 1), 1)  # two wait and one is unacknowledged
    assert queues.refused == 1
    assert queues.put(message(3, 1), 0)
    assert taken(queues) == ["0", "1", "3"]


def test_commands_go_before_acks_but_not_beyond_the_window() -> None:
    queues = OutgoingQueues(qos0_max=9, qos1_max=9, in_flight_max=2)
    queues.put(message(0), 0)
    queues.put(message(1, 1), 0)
    assert taken(queues, in_flight=2) == ["0"]
    queues.put(message(2), 0)
    assert taken(queues, in_flight=1) == ["1", "2"]


def test_what_was_unacknowledged_goes_first_in_its_old_order() -> None:
    queues = OutgoingQueues(qos0_max=9, qos1_max=9, in_flight_max=9)
    queues.put(message(3, 1), 2)
    queues.put_back([message(1, 1), message(2, 1)])
    assert taken(queues) == ["1", "2", "3"]


def test_an_empty_queue_gives_nothing() -> None:
    assert OutgoingQueues(1, 1, 1).take(0) is None


@pytest.mark.parametrize(
    ("payload_len", "length_bytes"), [(0, 1), (117, 1), (118, 2), (16_373, 2), (16_374, 3), (65_536, 3)]
)
@pytest.mark.parametrize("retain", [False, True])
def test_an_ack_is_a_publish_packet(payload_len: int, length_bytes: int, retain: bool) -> None:
    """MQTT 3.1.1 sections 2.2.3 and 3.3: gmqtt's own encoder gives the same bytes."""
    payload = bytes(payload_len)
    packet = encode_publish_qos0(Outgoing("topic/é", payload, 0, retain))
    wanted = gmqtt.Message("topic/é", payload, qos=0, retain=retain)
    protocol = SimpleNamespace(proto_ver=MQTTv311)
    assert packet == PublishPacket.build_package(wanted, protocol)[1]
    assert len(packet) == 1 + length_bytes + 2 + len("topic/é".encode()) + payload_len
