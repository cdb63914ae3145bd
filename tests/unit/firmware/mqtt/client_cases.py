"""Cases for the MQTT client with a clock that stands still, run on CPython and by MicroPython itself.

Plain functions named ``case_*``: one returns, or raises. Nothing here waits for real time.
"""

# MicroPython runs this file too, so it keeps to what that has.
# ruff: noqa: PT017

import asyncio

from fake_world import CONNACK_OK, World, fault_of, play, puback, suback

from surge_device.mqtt_acks import PendingAcks
from surge_device.mqtt_errors import (
    MqttBusy,
    MqttCredentialsRefused,
    MqttEncodeError,
    MqttError,
    MqttLinkLost,
    MqttProtocolError,
    MqttRefused,
    MqttSubscribeRefused,
    MqttTimeout,
    MqttTlsError,
    MqttUnacknowledged,
)
from surge_device.mqtt_link import link_fault
from surge_device.mqtt_packets import PINGREQ, PUBACK
from surge_device.mqtt_settings import MqttSettings
from surge_device.mqtt_socket import pem_to_der

PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


def case_connect_says_who_and_comes_up():
    async def scene():
        world = World(will=("w", b"gone", 1, True))
        task = asyncio.create_task(world.client.connect())
        await world.turns()
        assert world.stream.sent[:2] == b"\x10\x26"
        assert b"hunter2" in world.stream.sent
        assert not world.client.up.is_set()
        assert world.client.down.is_set()
        await world.hear(CONNACK_OK)
        await task
        assert world.client.up.is_set()
        assert not world.client.down.is_set()
        assert world.links == [(True, None)]
        await world.client.close()
        assert world.stream.sent.endswith(DISCONNECT)
        assert world.stream.closed
        assert world.client.down.is_set()
        assert len(world.links) == 2

    play(scene)


def case_refusals_are_typed_and_nothing_stays_open():
    async def scene():
        for code in range(1, 6):
            world = World()
            task = asyncio.create_task(fault_of(world.client.connect()))
            await world.turns()
            await world.hear(bytes([0x20, 2, 0, code]))
            fault = await task
            assert isinstance(fault, MqttRefused)
            assert fault.code == code
            assert isinstance(fault, MqttCredentialsRefused) == (code > 3)
            assert world.stream.closed
            assert world.links == []

    play(scene)


def case_backoff_is_full_jitter_with_a_cap():
    settings = MqttSettings("h", 1, "c", backoff_base_ms=1000, backoff_cap_ms=60000)
    lost = MqttLinkLost("x")
    ceilings = [settings.backoff_ms(failures, lost, 0.999999) + 1 for failures in range(1, 10)]
    assert ceilings == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000], ceilings
    assert settings.backoff_ms(5, lost, 0.0) == 0
    assert settings.backoff_ms(5, lost, 0.5) == 8000
    assert settings.backoff_ms(10**6, lost, 0.5) == 30000
    for fault in (
        MqttCredentialsRefused(5),
        MqttRefused(2),
        MqttSubscribeRefused("a"),
        MqttEncodeError("x"),
    ):
        assert settings.backoff_ms(1, fault, 0.0) == 500
        assert settings.backoff_ms(1, fault, 0.999999) == 999
        assert settings.backoff_ms(7, fault, 0.0) == 32000  # beyond the cap of a lost link
        assert settings.backoff_ms(20, fault, 0.0) == 150000
        assert settings.backoff_ms(20, fault, 0.5) == 225000
    assert settings.backoff_ms(1, MqttRefused(3), 0.5) == 500


def case_run_waits_longer_and_longer_after_wrong_credentials():
    async def scene():
        world = World()
        task = asyncio.create_task(world.client.run())
        for attempt, nap_ms in enumerate((750, 1500, 3000, 6000, 12000, 24000, 48000, 96000, 192000, 225000)):
            await world.turns()
            await world.hear(b"\x20\x02\x00\x05")
            assert world.clock.naps[-1] == nap_ms, (nap_ms, world.clock.naps)
            world.clock.advance(nap_ms - 1)
            await world.turns()
            assert len(world.streams) == attempt + 1
            world.clock.advance(1)
        await world.turns()
        await world.client.close()
        await task

    play(scene)


def case_run_tries_for_ever_and_starts_anew_after_a_stable_link():
    async def scene():
        world = World()
        world.no_route = True
        task = asyncio.create_task(world.client.run())
        await world.turns()
        for nap_ms in (500, 1000, 2000, 4000, 8000, 16000, 30000, 30000):
            assert world.clock.naps[-1] == nap_ms, world.clock.naps
            world.clock.advance(nap_ms)
            await world.turns()
        world.no_route = False
        world.clock.advance(30000)
        await world.turns()
        await world.hear(CONNACK_OK)
        assert world.client.up.is_set()
        await world.pass_ms(30000)
        world.stream.hang_up()
        await world.turns()
        assert world.client.down.is_set()
        assert world.clock.naps[-1] == 500
        assert "closed the connection" in str(world.links[-1][1])
        await world.client.close()
        await task

    play(scene)


def case_filters_are_subscribed_again_before_the_link_is_up():
    async def scene():
        world = World(subscriptions=[("a", 1)])
        task = asyncio.create_task(world.client.run())
        await world.turns()
        await world.hear(CONNACK_OK)
        assert world.stream.sent.endswith(b"\x82\x06\x00\x01\x00\x01a\x01")
        assert not world.client.up.is_set()
        await world.hear(suback(1, b"\x01"))
        assert world.client.up.is_set()
        more = asyncio.create_task(world.client.subscribe([("b", 0)]))
        await world.turns()
        await world.hear(suback(2, b"\x00"))
        await more
        world.stream.hang_up()
        await world.turns()
        world.clock.advance(500)
        await world.turns()
        assert len(world.streams) == 2
        await world.hear(CONNACK_OK)
        assert world.stream.sent.endswith(b"\x82\x0a\x00\x03\x00\x01a\x01\x00\x01b\x00"), world.stream.sent
        await world.hear(suback(3, b"\x01\x00"))
        assert world.client.up.is_set()
        await world.client.close()
        await task

    play(scene)


def case_a_refused_subscription_names_its_topic():
    async def scene():
        world = World()
        await (await world.connected())
        task = asyncio.create_task(fault_of(world.client.subscribe([("mine", 1), ("foreign", 1)])))
        await world.turns()
        await world.hear(suback(1, b"\x01\x80"))
        fault = await task
        assert isinstance(fault, MqttSubscribeRefused)
        assert fault.topic == "foreign"
        assert "foreign" in str(fault)
        assert world.client.up.is_set()
        task = asyncio.create_task(fault_of(world.client.subscribe([("mine", 1), ("other", 1)])))
        await world.turns()
        await world.hear(suback(2, b"\x01"))
        assert isinstance(await task, MqttProtocolError)
        assert world.client.down.is_set()

    play(scene)


def case_qos_1_waits_for_its_own_puback():
    async def scene():
        world = World()
        await (await world.connected())
        one = asyncio.create_task(world.client.publish("a", b"1", qos=1))
        two = asyncio.create_task(world.client.publish("a", b"2", qos=1))
        await world.turns()
        assert world.stream.sent == b"\x32\x06\x00\x01a\x00\x011\x32\x06\x00\x01a\x00\x022"
        await world.hear(puback(77) + puback(2))
        assert two.done()
        assert not one.done()
        await world.hear(puback(1))
        assert await one == 1
        assert await two == 2
        await world.client.close()

    play(scene)


def case_an_unacknowledged_publish_can_be_sent_again_with_dup():
    async def scene():
        world = World()
        await (await world.connected())
        task = asyncio.create_task(fault_of(world.client.publish("a", b"1", qos=1, retain=True)))
        await world.turns()
        await world.pass_ms(10250)
        fault = await task
        assert isinstance(fault, MqttUnacknowledged)
        assert fault.packet_id == 1
        assert world.client.up.is_set()
        await world.hear(puback(1))  # late: nobody waits for it, and it is no error
        again = asyncio.create_task(world.client.publish("a", b"1", qos=1, retain=True, resend_id=1))
        await world.turns()
        assert world.stream.sent.endswith(b"\x3b\x06\x00\x01a\x00\x011"), world.stream.sent
        fault = await fault_of(world.client.publish("a", b"1", qos=1, resend_id=1))
        assert isinstance(fault, MqttEncodeError)
        assert "in use" in str(fault)
        await world.hear(puback(1))
        assert await again == 1
        await world.client.close()

    play(scene)


def case_a_lost_link_releases_who_waits_for_it():
    async def scene():
        world = World()
        await (await world.connected())
        task = asyncio.create_task(fault_of(world.client.publish("a", b"1", qos=1)))
        await world.turns()
        world.stream.hang_up()
        fault = await task
        assert isinstance(fault, MqttUnacknowledged)
        assert "closed the connection" in str(fault)
        for call in (world.client.publish("a", b""), world.client.publish("a", b"", qos=1)):
            assert isinstance(await fault_of(call), MqttLinkLost)
        assert isinstance(await fault_of(world.client.subscribe([("a", 0)])), MqttLinkLost)

    play(scene)


def case_more_publishes_in_flight_than_the_limit_are_refused():
    async def scene():
        world = World()
        await (await world.connected())
        tasks = [asyncio.create_task(world.client.publish("a", b"", qos=1)) for _ in range(8)]
        await world.turns()
        assert isinstance(await fault_of(world.client.publish("a", b"", qos=1)), MqttBusy)
        for number in range(1, 9):
            await world.hear(puback(number))
        for index, task in enumerate(tasks):
            assert await task == index + 1
        await world.client.close()

    play(scene)


def case_a_silent_link_is_pinged_and_given_up_when_dead():
    async def scene():
        world = World(keep_alive_s=60)
        await (await world.connected())
        await world.pass_ms(44000)
        assert world.stream.sent == b""
        await world.pass_ms(1500)
        assert world.stream.sent == PINGREQ
        await world.hear(PINGRESP)
        await world.pass_ms(46000)
        assert world.stream.sent == PINGREQ * 2
        assert world.client.up.is_set()
        await world.pass_ms(10500)
        assert world.client.down.is_set()
        assert "no PINGRESP" in str(world.links[-1][1])
        await world.client.close()
        assert world.stream.closed

    play(scene)


def case_a_link_that_only_sends_is_pinged_too():
    async def scene():
        world = World(keep_alive_s=60)
        await (await world.connected())
        for _ in range(46):
            await world.client.publish("a", b"x")
            await world.pass_ms(1000)
        assert PINGREQ in world.stream.sent
        for _ in range(11):
            if world.client.up.is_set():
                await world.client.publish("a", b"x")
            await world.pass_ms(1000)
        assert world.client.down.is_set()
        await world.client.close()

    play(scene)


def case_a_write_that_hangs_ends_the_link():
    async def scene():
        world = World(io_timeout_ms=5000)
        await (await world.connected())
        world.stream.open_gate.clear()
        task = asyncio.create_task(fault_of(world.client.publish("a", b"1")))
        await world.pass_ms(5500)
        fault = await task
        assert isinstance(fault, MqttLinkLost)
        assert "nothing could be written for 5000 ms" in str(fault)
        assert world.client.down.is_set()

    play(scene)


def case_a_cancelled_sender_leaves_its_packet_whole():
    async def scene():
        world = World()
        await (await world.connected())
        world.stream.open_gate.clear()
        one = asyncio.create_task(world.client.publish("a", b"1"))
        await world.turns()
        two = asyncio.create_task(world.client.publish("a", b"2"))
        await world.turns()
        one.cancel()
        try:
            await one
        except asyncio.CancelledError:
            pass
        await world.turns()
        world.stream.open_gate.set()
        await two
        assert world.stream.sent == b"\x30\x04\x00\x01a1\x30\x04\x00\x01a2", world.stream.sent
        await world.client.close()

    play(scene)


def case_many_senders_at_once_do_not_mix():
    async def scene():
        world = World()
        await (await world.connected())
        tasks = [asyncio.create_task(world.client.publish("a", bytes([48 + n]))) for n in range(9)]
        for task in tasks:
            await task
        assert world.stream.sent == b"".join([b"\x30\x04\x00\x01a" + bytes([48 + n]) for n in range(9)])
        assert world.client.bytes_sent == len(world.stream.sent) + 31  # CONNECT
        await world.client.close()

    play(scene)


def case_inbound_qos_1_is_acknowledged_after_the_handler():
    async def scene():
        world = World()
        await (await world.connected())
        await world.hear(b"\x32\x06\x00\x01c\x00\x09!\x3b\x06\x00\x01c\x00\x09!\x31\x04\x00\x01c?")
        assert [message[:3] for message in world.messages] == [
            ("c", b"!", False),
            ("c", b"!", True),  # a duplicate is passed on
            ("c", b"?", True),
        ]
        assert world.messages[0][3] == b""
        assert world.stream.sent == puback(9) * 2
        world.handler_fault = ValueError("hunter2")
        await world.hear(b"\x32\x06\x00\x01c\x00\x0a!")
        assert world.stream.sent == puback(9) * 2
        assert world.client.handler_faults == 1
        assert world.client.up.is_set()
        assert "hunter2" not in "".join(world.log.lines)
        await world.client.close()

    play(scene)


def case_a_too_long_message_is_acknowledged_and_counted():
    async def scene():
        world = World(packet_len_max=128)
        await (await world.connected())
        await world.hear(b"\x32\xac\x02\x00\x01c\x00\x09" + b"x" * 295)
        assert world.messages == []
        assert world.stream.sent == puback(9)
        assert world.client.skipped == 1
        fault = await fault_of(world.client.publish("a", b"x" * 200))
        assert isinstance(fault, MqttEncodeError)
        assert world.client.up.is_set()
        await world.client.publish("a", b"")
        await world.client.close()

    play(scene)


def case_what_the_broker_must_not_send_ends_the_link():
    async def scene():
        for data in (b"\xff", CONNACK_OK, b"\x30\x03\x00\x01#", b"\x36\x00", b"\x90\x03\x00\x00\x00"):
            world = World()
            await (await world.connected())
            await world.hear(data)
            assert world.client.down.is_set()
            assert isinstance(world.links[-1][1], MqttProtocolError)
            await world.client.close()
            assert world.stream.closed
        for data in (b"\x30\x04\x00\x01a!", puback(1), b"\x90\x03\x00\x01\x00"):
            world = World()
            task = asyncio.create_task(fault_of(world.client.connect()))
            await world.turns()
            await world.hear(data)
            fault = await task
            assert isinstance(fault, MqttProtocolError)
            assert "before connack" in str(fault)
            assert world.messages == []
            assert world.stream.closed

    play(scene)


def case_no_connack_is_a_time_out():
    async def scene():
        world = World()
        task = asyncio.create_task(fault_of(world.client.connect()))
        await world.pass_ms(10500)
        assert isinstance(await task, MqttTimeout)
        assert world.stream.closed

    play(scene)


def case_close_ends_run_even_while_it_rests():
    async def scene():
        world = World()
        world.no_route = True
        task = asyncio.create_task(world.client.run())
        await world.turns()
        assert world.clock.naps == [500]
        await world.client.close()
        await task
        world = World()
        task = asyncio.create_task(world.client.run())
        await world.turns()
        await world.client.close()  # while it waits for CONNACK
        await task
        assert world.stream.closed

    play(scene)


def case_cancelling_run_closes_without_disconnect():
    async def scene():
        world = World()
        task = asyncio.create_task(world.client.run())
        await world.turns()
        await world.hear(CONNACK_OK)
        task.cancel()
        try:
            await task
            raise AssertionError("run swallowed a cancellation")
        except asyncio.CancelledError:
            pass
        assert world.stream.closed
        assert not world.stream.sent.endswith(DISCONNECT)

    play(scene)


def case_no_secret_in_logs_errors_or_settings():
    async def scene():
        world = World()
        task = asyncio.create_task(world.client.run())
        await world.turns()
        await world.hear(b"\x20\x02\x00\x04")
        world.clock.advance(300000)
        await world.turns()
        await world.hear(CONNACK_OK + b"\xff")  # never up
        world.clock.advance(60000)
        await world.turns()
        await world.hear(CONNACK_OK)
        await world.hear(b"\xff")
        assert [line.split()[1] for line in world.log.lines] == [
            "mqtt.retry",
            "mqtt.retry",
            "mqtt.up",
            "mqtt.down",
            "mqtt.retry",
        ]
        assert "hunter2" not in "".join(world.log.lines) + repr(world.settings) + repr(world.client)
        await world.client.close()
        await task

    play(scene)


def case_settings_that_can_not_work_are_named():
    for others, named in (
        ({"keepalive": 3}, "keepalive"),
        ({"keep_alive_s": 0}, "keep_alive_s"),
        ({"keep_alive_s": 65536}, "keep_alive_s"),
        ({"packet_len_max": 12}, "packet_len_max"),
        ({"backoff_cap_ms": 10}, "backoff_cap_ms"),
        ({"ping_timeout_ms": 0}, "ping_timeout_ms"),
    ):
        try:
            MqttSettings("h", 1883, "c", **others)
        except MqttError as fault:
            assert named in str(fault)
            continue
        raise AssertionError(named)


def case_packet_ids_wrap_and_avoid_those_in_use():
    acks = PendingAcks(8)
    first = acks.expect(PUBACK, acks.new_id(), 0)
    for _ in range(65534):
        acks.new_id()
    assert acks.new_id() == 2  # 0 is never one, 1 is in use
    acks.forget(1, first)
    assert len(acks) == 0


def case_tls_faults_have_their_own_error():
    assert isinstance(link_fault(OSError(-9984, "MBEDTLS_ERR_X509_CERT_VERIFY_FAILED")), MqttTlsError)
    fault = link_fault(ValueError("\nThe certificate Common Name (CN) does not match\n"))
    assert isinstance(fault, MqttTlsError)
    assert "\n" not in str(fault)
    assert isinstance(link_fault(OSError(104)), MqttLinkLost)
    assert isinstance(link_fault(OSError()), MqttLinkLost)
    assert isinstance(link_fault(MemoryError()), MqttLinkLost)


def case_a_ca_file_is_read_as_pem_or_der():
    pem = b"# a comment\n-----BEGIN CERTIFICATE-----\nMAEC\nAwQ=\n-----END CERTIFICATE-----\n"
    assert pem_to_der(pem[12:]) == b"\x30\x01\x02\x03\x04" == pem_to_der(b"\x30\x01\x02\x03\x04")
    for bad in (pem[12:] * 2, b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"):
        try:
            pem_to_der(bad)
        except MqttTlsError:
            continue
        raise AssertionError(bad)
