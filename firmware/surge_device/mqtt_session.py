"""An MQTT session over one connection: CONNECT and CONNACK, publish, subscribe, and what the broker sends.

Place in the flow: the half of ``MqttClient`` that talks; ``mqtt`` adds staying connected. Its public
methods and their rules are described there. What it does not do: reconnect.
"""

import asyncio

from surge_device import mqtt_packets as packets
from surge_device.mqtt_acks import PendingAcks
from surge_device.mqtt_errors import (
    MqttCredentialsRefused,
    MqttError,
    MqttLinkLost,
    MqttProtocolError,
    MqttRefused,
    MqttSubscribeRefused,
    MqttTimeout,
    MqttTlsError,
    MqttUnacknowledged,
)
from surge_device.mqtt_link import MqttLink
from surge_device.mqtt_settings import IN_FLIGHT_MAX, SUBSCRIPTIONS_MAX


class MqttSession:
    def __init__(self, settings, on_message, clock, log, subscriptions):
        self.settings = settings
        self.up = asyncio.Event()
        self.handler_faults = 0  # how often on_message raised
        self._on_message = on_message
        self._clock = clock
        self._log = log
        self._subscriptions = list(subscriptions)
        self._acks = PendingAcks(IN_FLIGHT_MAX)
        self._link = MqttLink(settings, clock, self._on_packet, self._on_lost)
        self._accepted = False  # a CONNACK with code 0 came on this connection

    @property
    def skipped(self) -> int:
        """Messages dropped because they were longer than ``packet_len_max``."""
        return self._link.skipped

    @property
    def bytes_sent(self) -> int:
        return self._link.bytes_sent

    async def publish(self, topic, payload, qos=0, retain=False, resend_id=0) -> int:
        """Send ``payload`` (bytes, or anything with a buffer). QoS 0: returns 0 when the network stack has
        it.

        QoS 1: returns the packet id after the PUBACK. ``resend_id``: the id of the attempt that failed.
        """
        self._need_up()
        if not qos:
            await self._link.send(packets.encode_publish, topic, payload, 0, retain, False, 0)
            return 0
        number = resend_id or self._acks.new_id()
        try:
            values = (topic, payload, qos, retain, bool(resend_id), number)
            await self._ask(packets.PUBACK, number, packets.encode_publish, *values)
        except (MqttLinkLost, MqttTimeout, MqttProtocolError, MqttTlsError) as fault:
            raise MqttUnacknowledged(number, str(fault))
        return number

    async def subscribe(self, topics) -> None:
        """``topics``: (filter, qos) pairs; ``MqttSubscribeRefused`` names the first that the broker
        refused.
        """
        self._need_up()
        known = [pair for pair in self._subscriptions if pair[0] not in [topic for topic, _ in topics]]
        if len(known) + len(topics) > SUBSCRIPTIONS_MAX:
            raise MqttError("more than %d subscriptions" % SUBSCRIPTIONS_MAX)
        await self._subscribe(topics)
        self._subscriptions = known + list(topics)

    async def _ask(self, kind: int, number: int, encode, *values):
        """Send a packet and wait for the answer to it; the watcher ends the wait when it takes too long."""
        awaited = self._acks.expect(kind, number, self._clock.uptime_ms() + self.settings.ack_timeout_ms)
        try:
            await self._link.send(encode, *values)
            return await awaited.outcome()
        finally:
            self._acks.forget(number, awaited)

    async def _open_session(self) -> None:
        """CONNECT (3.1) and the subscriptions of earlier connections."""
        values = self.settings.connect_values()
        _, _, code = await self._ask(packets.CONNACK, 0, packets.encode_connect, *values)
        if code:
            raise (MqttCredentialsRefused if code in (4, 5) else MqttRefused)(code)
        if self._subscriptions:
            await self._subscribe(self._subscriptions)

    async def _subscribe(self, topics) -> None:
        number = self._acks.new_id()
        _, _, codes = await self._ask(packets.SUBACK, number, packets.encode_subscribe, number, topics)
        if len(codes) != len(topics):
            fault = MqttProtocolError("suback has %d codes for %d filters" % (len(codes), len(topics)))
            self._link.fail(fault)
            raise fault
        for index, code in enumerate(codes):
            if code == packets.SUBSCRIBE_REFUSED:
                raise MqttSubscribeRefused(topics[index][0])

    async def _on_packet(self, packet) -> None:
        kind = packet[0]
        if kind == packets.CONNACK:
            if self._accepted:
                raise MqttProtocolError("a second connack")
            self._accepted = packet[2] == 0
            self._acks.settle(0, packet)
        elif not self._accepted:
            raise MqttProtocolError("packet type %d before connack" % kind)  # 3.2
        elif kind == packets.PUBLISH:
            await self._deliver(packet)
        else:
            self._acks.settle(packet[1], packet)

    async def _deliver(self, packet) -> None:
        _, topic, payload, qos, retain, _, number = packet
        if payload is None:
            self._say("warning", "mqtt.skipped", "longer than %d bytes" % self.settings.packet_len_max)
        else:
            try:
                self._on_message(topic, payload, retain)
            except Exception as fault:  # the app's fault must not cost the link; see the rules above
                self.handler_faults += 1
                self._say("warning", "mqtt.handler_fault", type(fault).__name__)
                return
        if qos and number:
            await self._link.send(packets.encode_puback, number)

    def _on_lost(self, fault: MqttError) -> None:
        self._accepted = False
        self._acks.fail_all(fault)

    def _need_up(self) -> None:
        if not self.up.is_set():
            raise MqttLinkLost("there is no link to the broker")

    def _say(self, level: str, event: str, *values) -> None:
        if self._log:
            getattr(self._log, level)(event, *values)
