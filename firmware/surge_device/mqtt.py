"""The MQTT 3.1.1 client of a device: connect, publish, subscribe, and stay connected.

Place in the flow: the app gives it sealed reports to publish and gets acks and commands through
``on_message``. It is the async shell over ``mqtt_packets``, ``mqtt_parser``, ``mqtt_acks``, ``mqtt_link``
and ``mqtt_socket``. What it does not do: keep a message (that is the outbox), QoS 2, Wi-Fi, MQTT 5.

Rules
- A publish while there is no link is ``MqttLinkLost`` at once. A QoS 1 publish without its PUBACK is
  ``MqttUnacknowledged``; whether to send it again is the caller's choice, because only the caller still has
  it: ``publish(..., qos=1, resend_id=error.packet_id)`` sends it with DUP and its old id (4.4).
- An inbound QoS 1 message gets its PUBACK after ``on_message`` returned. If that raises, there is no
  PUBACK: the fault is logged and counted, the link goes on, and the broker may deliver it again in this
  session. Duplicates are passed on: who needs each once compares ids of the payload. ``on_message`` is a
  plain function; the reader waits for it.
- ``run`` never gives up: jittered back-off with a cap, a higher one after refusals, which mostly need a
  person.
- Filters subscribed once are subscribed again on each connection, before the link counts as up.
- ``close`` sends DISCONNECT, which tells the broker to drop the last will. Cancelling ``run`` does not, so
  the will goes out: to the broker that device is lost.
- Random numbers, clock and sleep are given; nothing logged holds a password or a payload.
"""

import asyncio

from surge_device.mqtt_errors import MqttError, MqttLinkLost
from surge_device.mqtt_packets import DISCONNECT
from surge_device.mqtt_session import MqttSession
from surge_device.mqtt_settings import STABLE_MS, TICK_MS
from surge_device.mqtt_socket import make_tls_context, open_stream


def _encode_disconnect(buffer) -> int:
    buffer[: len(DISCONNECT)] = DISCONNECT
    return len(DISCONNECT)


class MqttClient(MqttSession):
    """``up`` and ``down`` are events; ``handler_faults`` counts what ``on_message`` raised, ``skipped``
    what was too long, ``bytes_sent`` everything written.
    """

    def __init__(
        self,
        settings,
        on_message,
        clock,
        random,
        log=None,
        on_link=None,
        subscriptions=(),
        open_stream=open_stream,
        sleep_ms=None,
    ):
        """``on_message(topic, payload, retain)``; ``clock.uptime_ms()`` never goes back; ``random()`` is in
        [0, 1).

        ``log`` has ``info(event, *values)`` and ``warning``; ``on_link(up, fault)`` hears of each change
        and must neither block nor raise; ``subscriptions`` are (filter, qos) pairs for every connection.
        """
        super().__init__(settings, on_message, clock, log, subscriptions)
        self.down = asyncio.Event()
        self.down.set()
        self._random = random
        self._on_link = on_link
        self._open_stream = open_stream
        self._sleep_ms = sleep_ms or asyncio.sleep_ms
        self._tls_context = None
        self._lost = asyncio.Event()
        self._fault = None  # why the latest connection ended or failed
        self._watcher = None
        self._resting = None  # the task of run(), while it waits to try again
        self._closing = False

    async def connect(self) -> None:
        """One attempt, subscriptions included. Raises an ``MqttError`` that says why not; nothing stays
        open then.
        """
        if self._link.up:
            raise MqttError("already connected")
        await self._drop()
        settings = self.settings
        if settings.tls and not self._tls_context:
            self._tls_context = make_tls_context(settings.tls_ca_file, settings.tls_verify)
        if settings.tls and not settings.tls_verify:
            self._say("warning", "mqtt.tls_not_verified", "anybody can pose as the broker", settings.host)
        stream = await self._open_stream(settings, self._tls_context, self._clock, self._sleep_ms)
        self._lost.clear()
        self._fault = None
        self._link.start(stream)
        self._watcher = asyncio.create_task(self._watch())
        try:
            if self._closing:
                raise MqttLinkLost("the client was closed")
            await self._open_session()
            if not self._link.up:  # it broke after the last answer came, before this task ran
                raise self._fault
            self.down.clear()
            self.up.set()
        except MqttLinkLost as fault:
            raise self._fault or fault  # what broke it says more than that a write failed
        finally:
            if not self.up.is_set():
                await self._drop()
        self._say("info", "mqtt.up", settings.host)
        if self._on_link:
            self._on_link(True, None)

    async def run(self) -> None:
        """Stay connected until ``close``."""
        failures = 0
        try:
            while not self._closing:
                since_ms = self._clock.uptime_ms()
                try:
                    if not self._link.up:
                        await self.connect()
                    await self._lost.wait()
                    await self._drop()
                    if self._clock.uptime_ms() - since_ms >= STABLE_MS:
                        failures = 0
                except MqttError as fault:
                    self._fault = fault
                if not self._closing:
                    failures += 1
                    await self._rest(failures)
        finally:
            await self._drop()

    async def close(self) -> None:
        """Say DISCONNECT, close the connection, end ``run``. The broker then drops the last will."""
        self._closing = True
        if self._resting:
            self._resting.cancel()
        try:
            if self.up.is_set():
                await self._link.send(_encode_disconnect)
        except MqttLinkLost:
            pass  # closed is closed
        await self._drop()

    async def _rest(self, failures: int) -> None:
        wait_ms = self.settings.backoff_ms(failures, self._fault, self._random())
        self._say("warning", "mqtt.retry", "wait_ms=%d" % wait_ms, "failures=%d" % failures, str(self._fault))
        self._resting = asyncio.current_task()
        try:
            await self._sleep_ms(wait_ms)
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            self._resting = None

    async def _watch(self) -> None:
        while self._link.up:
            await self._sleep_ms(TICK_MS)
            now_ms = self._clock.uptime_ms()
            self._link.check(now_ms)
            self._acks.expire(now_ms)

    def _on_lost(self, fault: MqttError) -> None:
        super()._on_lost(fault)
        self._fault = fault
        self._lost.set()
        if self.up.is_set():
            self.up.clear()
            self.down.set()
            self._say("info" if self._closing else "warning", "mqtt.down", str(fault))
            if self._on_link:
                self._on_link(False, fault)

    async def _drop(self) -> None:
        """Close what is open; ``_on_lost`` tells everybody."""
        if self._watcher:
            self._watcher.cancel()
            self._watcher = None
        await self._link.stop()
