"""One MQTT connection: gmqtt's parser and writer, with its traps shut.

Place in the flow: `link` opens a session, pumps messages through it, and opens another when it is lost. A
session never reconnects. Does not queue, count or decide.

gmqtt 0.8 is fast and maintained, but as it comes it

- reconnects by itself, for ever, at a fixed delay, and asks for the old session then: here `reconnect` does
  nothing;
- waits for a CONNACK without a time-out and leaves the socket open when the wait is cancelled: `open` closes
  it;
- buffers whatever length a packet declares, up to 256 MB, copying all of it at each read: a packet beyond
  `packet_bytes_max` is skipped as it arrives and reported, and the connection goes on;
- stops reading, and stays connected, at a malformed length: here the connection is closed;
- writes without regard to what the socket takes, and stores QoS 1 messages without bound: `writable` and
  `in_flight` say what the link needs in order to wait;
- logs the payload of each packet at debug level and tracebacks at each lost connection: its loggers start at
  ERROR;
- calls the message callback inside its own catch-all, through three debug calls and an inspection for
  coroutines: a QoS 0 message, nearly all there are, takes a short way here, for a half to a third
  of the CPU time.

It reaches into gmqtt's internals for that, so the version is pinned, and the contract suite would notice a
change.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import gmqtt
from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.constants import MQTTv311
from gmqtt.mqtt.handler import MQTTConnectError
from gmqtt.mqtt.package import Package
from gmqtt.mqtt.protocol import MQTTProtocol
from gmqtt.storage import PersistentStorage

from surge_gateway.mqtt.outgoing import Outgoing

SUBSCRIPTION_REFUSED = 0x80
_PUBLISH_QOS0 = 0x30  # with the bits for duplicate and retain masked out
_PUBLISH_QOS_MASK = 0xF6
_RETAIN = 0x01
_LENGTH_BYTES_MAX = 4  # of a packet's remaining length
_CLOSE_TIMEOUT_S = 1.0  # for the socket to take the DISCONNECT; then it is cut

logging.getLogger("gmqtt").setLevel(logging.ERROR)

OnMessage = Callable[[str, bytes, bool], None]


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
        self._unacknowledged = _Unacknowledged(on_progress)
        self._client = _Client(self, client_id, self._unacknowledged)

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

    def publish(self, message: Outgoing) -> None:
        """Hands the message to the socket's buffer; the caller looks at `writable` first."""
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
        self._lose()

    def _lose(self, *_: object) -> None:
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


class _Unacknowledged(PersistentStorage):  # type: ignore[misc]
    """Remembers messages, not packets, so that they can go out again on another connection."""

    def __init__(self, on_progress: Callable[[], None]) -> None:
        super().__init__()
        self.messages: dict[int, Outgoing] = {}
        self.sending: Outgoing | None = None
        self._on_progress = on_progress

    def push_message(self, mid: int, raw_package: bytes) -> None:
        if self.sending is not None:
            self.messages[mid] = self.sending

    def remove_message_by_mid(self, mid: int) -> None:
        if self.messages.pop(mid, None) is not None:
            self._on_progress()


class _Client(gmqtt.Client):  # type: ignore[misc]
    def __init__(self, session: MqttSession, client_id: str, storage: PersistentStorage) -> None:
        super().__init__(client_id, clean_session=True, persistent_storage=storage)
        self._session = session
        self.on_disconnect = session._lose
        self.on_message = _pass_on  # at QoS 1 only: see _Connection

    def pass_on(self, topic: object, payload: bytes, retained: bool) -> None:
        if isinstance(topic, str):  # gmqtt passes bytes on that aren't UTF-8
            self._session.on_message(topic, payload, retained)

    async def reconnect(self, delay: bool = False) -> None:
        """Left to the link."""

    async def _create_connection(
        self, host: str, port: int, ssl: Any, clean_session: bool, keepalive: int
    ) -> "_Connection":
        self._connack_received.clear()
        self._connection_lost.clear()
        session = self._session
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: _Protocol(
                session,
                connection_state=self._connection_state,
                id_generator=self._package_handler.id_generator,
            ),
            host,
            port,
            ssl=ssl or None,
        )
        return _Connection(session, protocol, clean_session, keepalive, self._package_handler)

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def give_up_waiting(self) -> None:
        """Lets `connect` return: a connection that is lost brings no CONNACK, and gmqtt would wait on."""
        self._connack_received.set()


def _pass_on(client: _Client, topic: object, payload: bytes, _qos: int, properties: dict[str, Any]) -> None:
    client.pass_on(topic, payload, bool(properties["retain"]))


class _Connection(MQTTConnection):  # type: ignore[misc]
    def __init__(
        self, session: MqttSession, protocol: "_Protocol", clean_session: bool, keepalive: int, handler: Any
    ) -> None:
        super().__init__(protocol._transport, protocol, clean_session, keepalive, package_handler=handler)
        self._on_message = session.on_message

    def put_package(self, package: Package) -> None:
        command = package.cmd
        if command & _PUBLISH_QOS_MASK != _PUBLISH_QOS0:
            super().put_package(package)
            return
        self._last_data_in = time.monotonic()
        data = package.data
        end = 2 + int.from_bytes(data[:2], "big")
        if end > len(data):
            return  # cut short: not a message
        try:
            topic = data[2:end].decode()
        except UnicodeDecodeError:
            return  # no topic that anybody could have been granted
        self._on_message(topic, data[end:], command & _RETAIN != 0)

    def abort(self) -> None:
        self._keep_connection_callback.cancel()
        self._transport.abort()


class _Protocol(MQTTProtocol):  # type: ignore[misc]
    def __init__(self, session: MqttSession, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._session = session
        self._skip = 0  # bytes still to come of a packet that is too long

    def pause_writing(self) -> None:
        super().pause_writing()
        self._session.writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self._session.writable = True
        self._session.on_progress()

    def _read_packet(self, data: bytes) -> int:
        if self._skip >= len(data):
            self._skip -= len(data)
            return len(data)
        skipped, self._skip = self._skip, 0
        if skipped:
            data = data[skipped:]
        used: int = super()._read_packet(data)
        if used >= 0:
            length = declared_length(data, used)
            if length is None or 0 <= length <= self._session.packet_bytes_max:
                return skipped + used
            if length > 0:
                self._session.on_oversize(length)
                self._skip = length - (len(data) - used)
                return skipped + len(data)
        self._transport.abort()
        return -1


def declared_length(data: bytes, offset: int) -> int | None:
    """The length of the packet that begins at `offset`: None for an incomplete header, -1 for a bad one."""
    length = 0
    for position in range(_LENGTH_BYTES_MAX):
        at = offset + 1 + position
        if at >= len(data):
            return None
        length |= (data[at] & 0x7F) << (7 * position)
        if not data[at] & 0x80:
            return 2 + position + length
    return -1
