"""gmqtt with its traps shut: the classes of it that a session is made of, each bounded.

Place in the flow: `session` opens one of these clients; nobody else sees them. Does not decide anything.

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
  coroutines: a QoS 0 message, nearly all there are, takes a short way here, for a half to a third of the
  CPU time.

It reaches into gmqtt's internals for that, so the version is pinned, and the contract suite would notice a
change.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import gmqtt
from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.package import Package
from gmqtt.mqtt.protocol import MQTTProtocol
from gmqtt.storage import PersistentStorage

from surge_gateway.mqtt.outgoing import Outgoing

_PUBLISH_QOS0 = 0x30  # with the bits for duplicate and retain masked out
_PUBLISH_QOS_MASK = 0xF6
_RETAIN = 0x01
_LENGTH_BYTES_MAX = 4  # of a packet's remaining length
INCOMPLETE = -1
MALFORMED = -2

logging.getLogger("gmqtt").setLevel(logging.ERROR)

OnMessage = Callable[[str, bytes, bool], None]


class Host(Protocol):
    """What these classes tell the session, and ask of it."""

    packet_bytes_max: int
    on_message: OnMessage
    on_oversize: Callable[[int], None]
    on_progress: Callable[[], None]
    writable: bool

    def lose(self, *_: object) -> None: ...


class Unacknowledged(PersistentStorage):  # type: ignore[misc]
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


class BoundedClient(gmqtt.Client):  # type: ignore[misc]
    def __init__(self, session: Host, client_id: str, storage: PersistentStorage) -> None:
        super().__init__(client_id, clean_session=True, persistent_storage=storage)
        self._session = session
        self.on_disconnect = session.lose
        self.on_message = _pass_on  # at QoS 1 only: see BoundedConnection

    def pass_on(self, topic: object, payload: bytes, retained: bool) -> None:
        if isinstance(topic, str):  # gmqtt passes bytes on that aren't UTF-8
            self._session.on_message(topic, payload, retained)

    async def reconnect(self, delay: bool = False) -> None:
        """Left to the link."""

    async def _create_connection(
        self, host: str, port: int, ssl: Any, clean_session: bool, keepalive: int
    ) -> "BoundedConnection":
        self._connack_received.clear()
        self._connection_lost.clear()
        session = self._session
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: BoundedProtocol(
                session,
                connection_state=self._connection_state,
                id_generator=self._package_handler.id_generator,
            ),
            host,
            port,
            ssl=ssl or None,
        )
        return BoundedConnection(session, protocol, clean_session, keepalive, self._package_handler)

    def write(self, packets: bytes) -> None:
        if self._connection is not None:
            self._connection.write(packets)

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def give_up_waiting(self) -> None:
        """Lets `connect` return: a connection that is lost brings no CONNACK, and gmqtt would wait on."""
        self._connack_received.set()


def _pass_on(
    client: BoundedClient, topic: object, payload: bytes, _qos: int, properties: dict[str, Any]
) -> None:
    client.pass_on(topic, payload, bool(properties["retain"]))


class BoundedConnection(MQTTConnection):  # type: ignore[misc]
    def __init__(
        self, session: Host, protocol: "BoundedProtocol", clean_session: bool, keepalive: int, handler: Any
    ) -> None:
        super().__init__(protocol._transport, protocol, clean_session, keepalive, package_handler=handler)
        self._on_message = session.on_message

    def take_packet(self, command: int, data: bytes, start: int, end: int) -> None:
        """One packet, whose body is `data[start:end]`."""
        if command & _PUBLISH_QOS_MASK != _PUBLISH_QOS0:
            self.put_package(Package(command, data[start:end]))
            return
        topic_at = start + 2
        payload_at = topic_at + int.from_bytes(data[start:topic_at], "big")
        if payload_at > end or topic_at > end:
            return  # cut short: not a message
        try:
            topic = data[topic_at:payload_at].decode()
        except UnicodeDecodeError:
            return  # no topic that anybody could have been granted
        self._on_message(topic, data[payload_at:end], command & _RETAIN != 0)

    def heard(self) -> None:
        """Something came: the broker lives."""
        self._last_data_in = time.monotonic()

    def write(self, packets: bytes) -> None:
        self._protocol.write_data(packets)

    def abort(self) -> None:
        self._keep_connection_callback.cancel()
        self._transport.abort()


class BoundedProtocol(MQTTProtocol):  # type: ignore[misc]
    def __init__(self, session: Host, **kwargs: Any) -> None:
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
        """Take every whole packet of `data`; gives how many bytes are done with, -1 to stop reading."""
        end = len(data)
        if self._skip >= end:
            self._skip -= end
            return end
        at, self._skip = self._skip, 0
        connection = self._connection
        length_max = self._session.packet_bytes_max
        connection.heard()
        while end - at >= 2:
            length = data[at + 1]
            body_at = at + 2
            if length & 0x80:
                length, body_at = remaining_length(data, at)
                if length == INCOMPLETE:
                    break
                if length == MALFORMED:
                    self._transport.abort()
                    return -1
            next_at = body_at + length
            if next_at - at > length_max:
                self._session.on_oversize(next_at - at)
                if next_at > end:
                    self._skip = next_at - end
                    return end
            elif next_at > end:
                break
            else:
                connection.take_packet(data[at], data, body_at, next_at)
            at = next_at
        return at


def remaining_length(data: bytes, offset: int) -> tuple[int, int]:
    """The remaining length of the packet at `offset` (MQTT 3.1.1 section 2.2.3), and where its body begins;
    INCOMPLETE or MALFORMED for the length.
    """
    length = 0
    for position in range(_LENGTH_BYTES_MAX):
        at = offset + 1 + position
        if at >= len(data):
            return INCOMPLETE, at
        length |= (data[at] & 0x7F) << (7 * position)
        if not data[at] & 0x80:
            return length, at + 1
    return MALFORMED, offset
