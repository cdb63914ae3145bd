"""A device's MQTT link, lean enough for tens of thousands in one process.

Place in the flow: between ``member`` (or an adversary) and the broker: one asyncio protocol for each TCP
connection. It logs in, subscribes to its own ``ack`` and ``command``, says ``online`` with ``offline`` as
its last will, and then publishes. Does not reconnect (``dialler``) or keep reports (``device``). Rules kept:

- no stream buffers: what is written goes to the transport, and while that is full ``writable`` is False and
  the owner waits; what comes in is cut into packets at once, bounded by ``packets``;
- whatever is wrong closes the connection with its reason; the owner is told once, by ``on_down``;
- a broker that is silent for a keep-alive and PING_TIMEOUT_MS is given up.
"""

import asyncio
from typing import Protocol

from surge_cli.simulate import packets
from surge_cli.simulate.packets import PacketReader, ProtocolError
from surge_wire.topics import ACK, COMMAND, REPORT, STATE, STATE_OFFLINE, STATE_ONLINE, topic

KEEP_ALIVE_S = 30  # the firmware's default
PING_TIMEOUT_MS = 10_000
WRITE_BUFFER_LEN_MAX = 64 * 1024  # of one connection; a device waits while so much is unsent

_SUBSCRIBE_ID = 1
_ONLINE_ID = 2
_OFFLINE_ID = 3


class LinkOwner(Protocol):
    """Who a link tells."""

    def on_up(self) -> None:
        """Logged in, subscribed, and said online."""

    def on_ack(self, payload: bytes) -> None:
        """A message on the device's ack topic."""

    def on_command(self, payload: bytes) -> None:
        """A message on the device's command topic."""

    def on_writable(self) -> None:
        """The transport has room again."""

    def on_down(self, reason: str, refused: bool) -> None:
        """The connection is over; ``refused``: the broker doesn't want this device."""


class Link(asyncio.Protocol):
    """One connection of ``device_id``. ``now_ms`` and keep-alive are the owner's wheel's business."""

    __slots__ = (
        "_announces",
        "_client_id",
        "_device_id",
        "_down",
        "_owner",
        "_password",
        "_pinged",
        "_reader",
        "_report_topic",
        "_transport",
        "_written",
        "up",
        "writable",
    )

    def __init__(
        self,
        device_id: str,
        password: str,
        owner: LinkOwner,
        client_id: str | None = None,
        announces: bool = True,
    ) -> None:
        """``announces``: say online and offline; a second holder of a key, or a thief of it, doesn't."""
        self._device_id = device_id
        self._password = password
        self._owner = owner
        self._client_id = client_id or device_id
        self._announces = announces
        self._reader = PacketReader()
        self._transport: asyncio.Transport | None = None
        self._report_topic = packets.field(topic(device_id, REPORT).encode())
        self._down = False
        self._pinged = False
        self._written = False  # since the last look at the keep-alive
        self.up = False
        self.writable = True

    @property
    def over(self) -> bool:
        """Whether it has ended, or was given up before it began."""
        return self._down

    # --- what the owner does ---------------------------------------------------------------------------

    def publish_report(self, envelope: bytes) -> bool:
        """Publish on the device's own report topic; False where the link isn't up."""
        return self._write(packets.encode_publish(self._report_topic, envelope))

    def publish_raw(self, topic_text: str, payload: bytes) -> bool:
        """Publish anywhere: only for those who try what must not work."""
        return self._write(packets.encode_publish(packets.field(topic_text.encode()), payload))

    def _write(self, data: bytes) -> bool:
        if not self.up or self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        self._written = True
        return True

    def keep_alive(self) -> None:
        """To be called every half keep-alive: pings where nothing was written, gives up a silent broker."""
        if self._pinged:
            self.close("the broker doesn't answer a ping")
        elif self.up and not self._written and self._transport is not None:
            self._transport.write(packets.PINGREQ)
            self._pinged = True
        self._written = False

    def goodbye(self) -> None:
        """Say offline and leave in order; there is no last will then."""
        if self.up and self._transport is not None:
            if self._announces:
                state = packets.field(topic(self._device_id, STATE).encode())
                self._transport.write(packets.encode_publish_qos1(state, STATE_OFFLINE, _OFFLINE_ID))
            self._transport.write(packets.DISCONNECT)
            self._end("left", refused=False)
            self._transport.close()
        else:
            self.abort()

    def close(self, reason: str, refused: bool = False) -> None:
        """End the connection at once, as an error does."""
        self._end(reason, refused)
        if self._transport is not None:
            self._transport.abort()

    def abort(self) -> None:
        """As a power cut: no goodbye, nothing flushed."""
        self.close("cut")

    # --- what asyncio calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is there: CONNECT."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own contract for streams
        self._transport = transport
        if self._down:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_BUFFER_LEN_MAX)
        device = self._device_id.encode()
        will = (topic(self._device_id, STATE).encode(), STATE_OFFLINE) if self._announces else None
        transport.write(
            packets.encode_connect(
                self._client_id.encode(), device, self._password.encode(), KEEP_ALIVE_S, will
            )
        )

    def data_received(self, data: bytes) -> None:
        """Bytes from the broker."""
        try:
            for first, body in self._reader.feed(data):
                self._on_packet(first, body)
                if self._down:
                    return
        except ProtocolError as error:
            self.close(f"protocol: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._end(f"lost: {error}" if error else "closed by the broker", refused=False)
        self._transport = None

    def pause_writing(self) -> None:
        """The transport is full."""
        self.writable = False

    def resume_writing(self) -> None:
        """It has room again."""
        self.writable = True
        if self.up:
            self._owner.on_writable()

    # --- the session -------------------------------------------------------------------------------------

    def _on_packet(self, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if kind == packets.PUBLISH:
            self._on_publish(first, body)
        elif kind == packets.PINGRESP:
            self._pinged = False
        elif kind == packets.CONNACK:
            self._on_connack(body)
        elif kind == packets.SUBACK:
            self._on_suback(body)
        elif kind != packets.PUBACK:  # those of our states: reports go out at QoS 0
            raise ProtocolError(f"a packet of type {kind >> 4} is not for clients")

    def _on_connack(self, body: bytes) -> None:
        if len(body) != 2:
            raise ProtocolError("CONNACK of the wrong length")
        if body[1]:
            self.close(f"login refused, code {body[1]}", refused=body[1] != 3)  # 3: server unavailable
            return
        device = self._device_id
        filters = ((topic(device, ACK).encode(), 0), (topic(device, COMMAND).encode(), 1))
        if self._transport is not None:
            self._transport.write(packets.encode_subscribe(_SUBSCRIBE_ID, filters))

    def _on_suback(self, body: bytes) -> None:
        if packets.SUBSCRIBE_REFUSED in body[2:] or len(body) != 4:
            self.close("subscription refused", refused=True)
            return
        self.up = True
        if self._announces:
            state = packets.field(topic(self._device_id, STATE).encode())
            self._write(packets.encode_publish_qos1(state, STATE_ONLINE, _ONLINE_ID))
        self._owner.on_up()

    def _on_publish(self, first: int, body: bytes) -> None:
        name, payload, packet_id = packets.decode_publish(first, body)
        if packet_id:
            self._write(packets.encode_puback(packet_id))
        if name.endswith(b"/ack"):
            self._owner.on_ack(payload)
        elif name.endswith(b"/command"):
            self._owner.on_command(payload)

    def _end(self, reason: str, refused: bool) -> None:
        if not self._down:
            self._down = True
            self.up = False
            self._owner.on_down(reason, refused)
