"""One MQTT connection: gmqtt's parser and writer, with its traps shut.

Place in the flow: `link` opens a session, pumps messages through it, and opens another when it is lost. A
session never reconnects. Does not queue, count or decide.

Rules kept: nothing stays open after `open` failed; everything that gmqtt would do on its own account is
stopped in `bounded_gmqtt`.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import gmqtt
from gmqtt.mqtt.constants import MQTTv311
from gmqtt.mqtt.handler import MQTTConnectError

from surge_gateway.mqtt.bounded_gmqtt import BoundedClient, OnMessage, Unacknowledged
from surge_gateway.mqtt.outgoing import Outgoing

SUBSCRIPTION_REFUSED = 0x80
_CLOSE_TIMEOUT_S = 1.0  # for the socket to take the DISCONNECT; then it is cut


class SessionRefused(Exception):
    """The broker said no; args[0] says to what."""


class MqttSession:
    """A connection that is open and subscribed, until `lost` is set.

    on_message(topic, payload, retained) and on_oversize(packet length) are called from the reader and must
    not raise. `on_progress()` is called when `writable` or `in_flight` have changed for the better, and at
    the loss.
    """

    def __init__(
        self,
        client_id: str,
        *,
        packet_bytes_max: int,
        on_message: OnMessage,
        on_oversize: Callable[[int], None],
        on_progress: Callable[[], None],
    ) -> None:
        self.packet_bytes_max = packet_bytes_max
        self.on_message = on_message
        self.on_oversize = on_oversize
        self.on_progress = on_progress
        self.writable = True
        self.lost = asyncio.Event()
        self._unacknowledged = Unacknowledged(on_progress)
        self._client = BoundedClient(self, client_id, self._unacknowledged)

    @property
    def in_flight(self) -> int:
        """How many QoS 1 messages are sent and not yet acknowledged."""
        return len(self._unacknowledged.messages)

    @property
    def unacknowledged(self) -> list[Outgoing]:
        """Those messages, oldest first."""
        return list(self._unacknowledged.messages.values())

    async def open(
        self,
        host: str,
        port: int,
        *,
        user: str,
        password: str,
        tls: ssl.SSLContext | None,
        keep_alive_s: int,
        subscriptions: Sequence[tuple[str, int]],
    ) -> None:
        """Connects and subscribes, or leaves nothing open. OSError, SessionRefused. Has no time-out."""
        if user:
            self._client.set_auth_credentials(user, password)
        try:
            await self._client.connect(
                host, port, ssl=tls or False, keepalive=keep_alive_s, version=MQTTv311, raise_exc=True
            )
            if self.lost.is_set():
                raise ConnectionResetError("the broker closed the connection")
            await self._subscribe(subscriptions)
        except MQTTConnectError as error:
            self.abort()
            raise SessionRefused(f"connection: {error}") from error
        except BaseException:
            self.abort()
            raise

    def write(self, packets: bytes) -> None:
        """Hands whole packets to the socket's buffer; the caller looks at `writable` first."""
        self._client.write(packets)

    def publish(self, message: Outgoing) -> None:
        """The same for one message, which is remembered at QoS 1 until the broker acknowledges it."""
        self._unacknowledged.sending = message
        self._client.publish(message.topic, message.payload, qos=message.qos, retain=message.retain)

    async def close(self) -> None:
        """Says goodbye, lets the buffer drain for a moment, and closes."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._client.disconnect()
        except (OSError, TimeoutError):
            pass  # it is gone, or as good as gone
        finally:
            self.abort()

    def abort(self) -> None:
        """Cuts the connection at once, if there is one."""
        self._client.abort()
        self.lose()

    def lose(self, *_: object) -> None:
        if not self.lost.is_set():
            self.lost.set()
            self._client.give_up_waiting()
            self.on_progress()

    async def _subscribe(self, subscriptions: Sequence[tuple[str, int]]) -> None:
        granted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_subscribe(_client: object, _mid: int, codes: tuple[int, ...], _properties: object) -> None:
            if not granted.done():
                granted.set_result(codes)

        self._client.on_subscribe = on_subscribe
        self._client.subscribe([gmqtt.Subscription(topic, qos=qos) for topic, qos in subscriptions])
        lost: asyncio.Future[Any] = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait([granted, lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if not granted.done():
            raise ConnectionResetError("the broker closed the connection while we subscribed")
        for (topic, _), code in zip(subscriptions, granted.result(), strict=True):
            if code >= SUBSCRIPTION_REFUSED:
                raise SessionRefused(f"subscription to {topic}")
