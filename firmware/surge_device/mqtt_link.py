"""One connection to a broker: a task that reads, a task that writes, and the deadlines of both.

Place in the flow: ``mqtt`` starts it with an open stream, sends packets through it and is told what came
and when it broke. It knows PINGREQ and PINGRESP and leaves every other packet to ``mqtt``. It doesn't
reconnect.

Rules, most of them bought by traps of MicroPython's asyncio:
- Only the two tasks touch the stream. Cancelling a task that waits for a stream also drops the other task's
  wait (``IOQueue.remove``), so neither is ever cancelled alone: any time-out ends the whole link.
- So there is no ``wait_for`` here (it costs two tasks each time, and may lose a result): ``check`` looks at
  the deadlines, and ``mqtt`` calls it every ``TICK_MS``.
- One writer at a time: concurrent ``drain`` calls would send bytes twice. ``send`` holds a lock, and a
  packet whose sender was cancelled is still written whole before the next one takes its place in the
  buffer.
- Three buffers, made once and never resized. ``drain`` takes care of partial writes.
- A ping is due when nothing was sent *or nothing was heard* for three quarters of the keep-alive time: a
  device that publishes all the time at QoS 0 would otherwise never find out that nobody listens.
"""

import asyncio

from surge_device.mqtt_errors import MqttError, MqttLinkLost, MqttTimeout, MqttTlsError
from surge_device.mqtt_packets import PINGREQ, PINGRESP
from surge_device.mqtt_parser import PacketParser
from surge_device.mqtt_settings import READ_LEN


def link_fault(fault: Exception) -> MqttError:
    """What broke the link, as one of our errors."""
    if isinstance(fault, MqttError):
        return fault
    number = fault.args[0] if isinstance(fault, OSError) and fault.args else 0
    if isinstance(fault, ValueError) or isinstance(number, int) and number < 0:  # mbedtls raises either
        said = " ".join(str(fault).split())
        return MqttTlsError("TLS failed (%s): check the CA file, the host name and the time" % said)
    return MqttLinkLost("the connection broke: %s %s" % (type(fault).__name__, fault))


class MqttLink:
    def __init__(self, settings, clock, on_packet, on_lost) -> None:
        """``on_packet(packet)`` is awaited by the reader; ``on_lost(fault)`` is called once per start."""
        self._clock = clock
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._io_timeout_ms = settings.io_timeout_ms
        self._ping_timeout_ms = settings.ping_timeout_ms
        self._ping_after_ms = settings.keep_alive_s * 750
        self._tx = bytearray(settings.packet_len_max)
        self._tx_view = memoryview(self._tx)
        self._rx = bytearray(READ_LEN)
        self._rx_view = memoryview(self._rx)
        self._parser = PacketParser(settings.packet_len_max)
        self._lock = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._written = asyncio.Event()
        self._stream = None
        self._tasks = ()
        self._starts = 0
        self._fault = None
        self.up = False
        self.bytes_sent = 0

    @property
    def skipped(self) -> int:
        """Inbound packets that were too long."""
        return self._parser.skipped

    def start(self, stream) -> None:
        now_ms = self._clock.uptime_ms()
        self._stream = stream
        self._starts += 1
        self._parser.reset()
        self._wanted.clear()
        self._written.set()
        self._tx_len = 0
        self._ping_wanted = False
        self._ping_ms = None  # since when a PINGRESP is awaited
        self._write_ms = None  # since when a write is under way
        self._sent_ms = self._heard_ms = now_ms
        self.up = True
        self._tasks = (
            asyncio.create_task(self._guard(self._read)),
            asyncio.create_task(self._guard(self._write)),
        )

    async def send(self, encode, *values) -> None:
        """Write the packet that ``encode(buffer, *values)`` makes; returns when the network stack has all
        of it.
        """
        await self._lock.acquire()
        try:
            if not self._written.is_set():
                await self._written.wait()
            if not self.up:
                raise MqttLinkLost("there is no link to the broker")
            start = self._starts
            self._tx_len = encode(self._tx, *values)
            self._written.clear()
            self._wanted.set()
            await self._written.wait()
            if self._tx_len or not self.up or start != self._starts:
                raise MqttLinkLost("the link broke during a write: %s" % self._fault)
        finally:
            self._lock.release()

    def check(self, now_ms: int) -> None:
        """Look at the deadlines: start a ping, or give the link up."""
        if not self.up:
            return
        if self._write_ms is not None and now_ms - self._write_ms >= self._io_timeout_ms:
            self.fail(MqttTimeout("nothing could be written for %d ms" % self._io_timeout_ms))
        elif self._ping_ms is None:
            if now_ms - min(self._sent_ms, self._heard_ms) >= self._ping_after_ms:
                self._ping_ms = now_ms
                self._ping_wanted = True
                self._wanted.set()
        elif now_ms - self._ping_ms >= self._ping_timeout_ms:
            self.fail(MqttTimeout("dead link: no PINGRESP within %d ms" % self._ping_timeout_ms))

    def fail(self, fault: MqttError) -> None:
        """Give the link up; senders are released with an error. ``stop`` then closes the stream."""
        if not self.up:
            return
        self.up = False
        self._fault = fault
        this_task = asyncio.current_task()
        for task in self._tasks:
            if task is not this_task:
                task.cancel()
        self._written.set()
        self._on_lost(fault)

    async def stop(self) -> None:
        """Close the stream. On MicroPython ``close`` does nothing: it is ``wait_closed`` that closes."""
        self.fail(MqttLinkLost("the link was closed"))
        stream, self._stream = self._stream, None
        if stream:
            try:
                stream.close()
                await stream.wait_closed()
            except OSError:
                pass  # it was broken already, which is no news here

    async def _guard(self, loop) -> None:
        try:
            await loop()
        except (
            Exception
        ) as fault:  # whatever ends a loop ends the link, and run() says so; else it would hang
            self.fail(link_fault(fault))

    async def _read(self) -> None:
        while self.up:
            count = await self._stream.readinto(self._rx)
            if count is None:
                continue  # TLS: a record arrived that carried nothing for us
            if not count:
                raise MqttLinkLost("the broker closed the connection")
            self._heard_ms = self._clock.uptime_ms()
            for packet in self._parser.feed(self._rx_view[:count]):
                if packet[0] == PINGRESP:
                    self._ping_ms = None
                else:
                    await self._on_packet(packet)

    async def _write(self) -> None:
        while self.up:
            await self._wanted.wait()
            self._wanted.clear()
            if self._tx_len:
                await self._put(self._tx_view[: self._tx_len])
                self._tx_len = 0
                self._written.set()
            if self._ping_wanted:
                self._ping_wanted = False
                await self._put(PINGREQ)

    async def _put(self, data) -> None:
        self._write_ms = self._clock.uptime_ms()
        self._stream.write(data)
        await self._stream.drain()
        self._write_ms = None
        self._sent_ms = self._clock.uptime_ms()
        self.bytes_sent += len(data)
