"""The gateway's link to its broker, for ever.

Place in the flow: `app` runs it; ingress is its `on_message`; acknowledgements and commands leave through
`publish`. Does not look into payloads and keeps nothing on disk: what is lost with a connection is sent again
by the devices.

Rules kept: `publish` and `on_message` never wait; every queue is bounded (`outgoing`); a lost or refused
connection is tried again with jittered, doubling, capped waits, and only one that has lasted resets them;
each connection is a new, clean session that subscribes anew; the client id can't be guessed, so that nobody
takes the session over; nothing that the broker sends or `on_message` raises ends the link.
"""

import asyncio
import random
import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from surge_gateway.mqtt.bounded_gmqtt import OnMessage
from surge_gateway.mqtt.outgoing import Outgoing, OutgoingQueues, encode_publish_qos0
from surge_gateway.mqtt.session import MqttSession, SessionRefused
from surge_gateway.mqtt.settings import MqttSettings
from surge_wire.topics import ALL_REPORTS, ALL_STATES

SUBSCRIPTIONS = ((ALL_REPORTS, 0), (ALL_STATES, 0))
# States are retained, so a new subscription brings them all again: QoS 1 would add only traffic.

PACKET_OVERHEAD_BYTES_MAX = 256  # header, topic and packet id around a payload
WRITE_LEN = 32 * 1024  # acks that go to the socket together; commands wait no longer than for these
STABLE_S = 10.0  # a connection that lasted so long resets the waits
_DOUBLINGS_MAX = 20  # far beyond any cap
_HANDLER_LOG_INTERVAL_S = 1.0  # a handler that fails for each message is logged this often


@dataclass(frozen=True)
class LinkStatistics:
    """Counters since the link was made; `connected` is now."""

    connected: bool
    connections: int  # that were subscribed
    failed_attempts: int
    received: int  # handed to on_message
    oversize: int  # received, too large, dropped
    handler_errors: int  # exceptions out of on_message
    published: int  # handed to the socket
    waiting: int  # in the outgoing queues
    dropped: int  # QoS 0, the queue was full
    refused: int  # QoS 1, the queue was full

    @property
    def reconnects(self) -> int:
        return max(0, self.connections - 1)


class MqttLink:
    """A connection that comes back by itself. `connected` is set while the subscriptions are granted."""

    def __init__(
        self,
        settings: MqttSettings,
        on_message: OnMessage,
        *,
        subscriptions: Sequence[tuple[str, int]] = SUBSCRIPTIONS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """on_message(topic, payload, retained) is called from the event loop and must not block."""
        self._settings = settings
        self._on_message = on_message
        self._subscriptions = tuple(subscriptions)
        self._jitter = jitter
        self._client_id = f"{settings.user or 'surge'}-{secrets.token_hex(8)}"
        self._queues = OutgoingQueues(
            settings.outgoing_qos0_max, settings.outgoing_qos1_max, settings.in_flight_max
        )
        self._session: MqttSession | None = None
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("surge_gateway.mqtt")
        self._connections = self._failed_attempts = self._received = self._published = 0
        self._oversize = self._handler_errors = 0
        self._handler_logged_s = -_HANDLER_LOG_INTERVAL_S
        self.connected = asyncio.Event()

    @property
    def statistics(self) -> LinkStatistics:
        return LinkStatistics(
            connected=self.connected.is_set(),
            connections=self._connections,
            failed_attempts=self._failed_attempts,
            received=self._received,
            oversize=self._oversize,
            handler_errors=self._handler_errors,
            published=self._published,
            waiting=len(self._queues),
            dropped=self._queues.dropped,
            refused=self._queues.refused,
        )

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool:
        """Queues a message and returns at once, connected or not.

        QoS 0: always True; the oldest waiting one is dropped if the queue is full. QoS 1: False if there is
        no room, otherwise it is sent until the broker acknowledges it, over reconnections too (so perhaps
        twice). ValueError for another QoS or a payload beyond `payload_bytes_max`.
        """
        if qos not in (0, 1):
            raise ValueError(f"QoS {qos}: only 0 and 1 are used")
        if len(payload) > self._settings.payload_bytes_max:
            raise ValueError(
                f"payload of {len(payload)} bytes for {topic}: mqtt.payload_bytes_max is"
                f" {self._settings.payload_bytes_max}"
            )
        in_flight = 0 if self._session is None else self._session.in_flight
        taken = self._queues.put(Outgoing(topic, payload, qos, retain), in_flight)
        self._wake.set()
        return taken

    async def run(self) -> None:
        """Connects, and again, until cancelled; then sends what the socket takes, says goodbye and closes."""
        tls = self._tls_context()
        failures = 0
        while True:
            began_s = time.monotonic()
            session = self._make_session()
            try:
                await self._open(session, tls)
            except (OSError, SessionRefused) as error:
                self._failed_attempts += 1
                self._log.warning(
                    "mqtt_connect_failed",
                    host=self._settings.host,
                    port=self._settings.port,
                    reason=_reason(error),
                    remedy="is the broker running, and are mqtt.host, mqtt.port, user and password right?",
                )
            else:
                await self._use(session)
                if time.monotonic() - began_s >= STABLE_S:
                    failures = 0
            await asyncio.sleep(self._delay_s(failures))
            failures += 1

    async def _open(self, session: MqttSession, tls: ssl.SSLContext | None) -> None:
        password = self._settings.password
        async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
            await session.open(
                self._settings.host,
                self._settings.port,
                user=self._settings.user,
                password="" if password is None else password.reveal(),
                tls=tls,
                keep_alive_s=self._settings.keep_alive_s,
                subscriptions=self._subscriptions,
            )

    async def _use(self, session: MqttSession) -> None:
        """From an open session to its loss, or to the end of the link."""
        self._session = session
        self._connections += 1
        self.connected.set()
        self._log.info(
            "mqtt_connected",
            host=self._settings.host,
            port=self._settings.port,
            connections=self._connections,
        )
        try:
            while not session.lost.is_set():
                self._wake.clear()
                self._send(session)
                await self._wake.wait()
            self._log.warning("mqtt_disconnected", host=self._settings.host, port=self._settings.port)
        finally:
            self.connected.clear()
            self._session = None
            self._send(session)
            await session.close()
            self._queues.put_back(session.unacknowledged)

    def _send(self, session: MqttSession) -> None:
        while session.writable and not session.lost.is_set():
            message = self._queues.take(session.in_flight)
            if message is None:
                return
            if message.qos:
                session.publish(message)
                self._published += 1
            else:
                self._send_together(session, message)

    def _send_together(self, session: MqttSession, first: Outgoing) -> None:
        """Acks as one write: with many devices, a system call for each costs more than all else about it."""
        packets = [encode_publish_qos0(first)]
        length = len(packets[0])
        while length < WRITE_LEN and (message := self._queues.take_qos0()) is not None:
            packets.append(encode_publish_qos0(message))
            length += len(packets[-1])
        session.write(b"".join(packets))
        self._published += len(packets)

    def _make_session(self) -> MqttSession:
        return MqttSession(
            self._client_id,
            packet_bytes_max=self._settings.payload_bytes_max + PACKET_OVERHEAD_BYTES_MAX,
            on_message=self._take_message,
            on_oversize=self._count_oversize,
            on_progress=self._wake.set,
        )

    def _take_message(self, topic: str, payload: bytes, retained: bool) -> None:
        if len(payload) > self._settings.payload_bytes_max:
            self._count_oversize(len(payload))
            return
        self._received += 1
        try:
            self._on_message(topic, payload, retained)
        except Exception as error:  # whatever it is, the link and the next message go on
            self._handler_errors += 1
            now_s = time.monotonic()
            if now_s - self._handler_logged_s >= _HANDLER_LOG_INTERVAL_S:
                self._handler_logged_s = now_s
                self._log.error(
                    "mqtt_handler_failed", topic=topic, count=self._handler_errors, exc_info=error
                )

    def _count_oversize(self, length: int) -> None:
        self._oversize += 1
        self._log.debug("mqtt_oversize_dropped", length=length)

    def _delay_s(self, failures: int) -> float:
        doubled_ms = self._settings.reconnect_delay_ms << min(failures, _DOUBLINGS_MAX)
        return min(doubled_ms, self._settings.reconnect_delay_ms_max) * (0.5 + self._jitter() / 2) / 1000

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self._settings.tls:
            return None
        authority = self._settings.tls_authority
        return ssl.create_default_context(cafile=None if authority is None else str(authority))


def _reason(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
