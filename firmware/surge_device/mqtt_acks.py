"""The answers that an MQTT client waits for, by packet id: CONNACK (as id 0), SUBACK, PUBACK.

Place in the flow: ``mqtt`` expects, sends, and waits; the reader settles; the watcher expires; a lost link
fails all. No I/O, no clock of its own. Rules: at most ``limit`` are awaited; a late or unasked answer is no
error (its waiter has given up) and settles nothing; an id in use is never given out again (2.3.1).
"""

import asyncio

from surge_device.mqtt_errors import MqttBusy, MqttEncodeError, MqttTimeout
from surge_device.mqtt_packets import PACKET_ID_MAX


class Awaited:
    """One awaited answer; ``packet`` is set when it came, ``fault`` when it won't."""

    def __init__(self, kind: int, deadline_ms: int) -> None:
        self.kind = kind
        self.deadline_ms = deadline_ms
        self.packet = None
        self.fault = None
        self.done = asyncio.Event()

    async def outcome(self):
        await self.done.wait()
        if self.fault:
            raise self.fault
        return self.packet


class PendingAcks:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last_id = 0
        self._awaited = {}

    def __len__(self) -> int:
        return len(self._awaited)

    def new_id(self) -> int:
        while True:
            self._last_id = self._last_id % PACKET_ID_MAX + 1
            if self._last_id not in self._awaited:
                return self._last_id

    def expect(self, kind: int, packet_id: int, deadline_ms: int) -> Awaited:
        if len(self._awaited) >= self._limit:
            raise MqttBusy("%d acknowledgements are awaited already; wait for one" % self._limit)
        if packet_id in self._awaited:
            raise MqttEncodeError("packet id %d is in use" % packet_id)
        awaited = self._awaited[packet_id] = Awaited(kind, deadline_ms)
        return awaited

    def forget(self, packet_id: int, awaited: Awaited) -> None:
        if self._awaited.get(packet_id) is awaited:
            del self._awaited[packet_id]

    def settle(self, packet_id: int, packet) -> bool:
        """Give ``packet`` to whom it answers; False when nobody waits for it."""
        awaited = self._awaited.get(packet_id)
        if awaited is None or awaited.kind != packet[0]:
            return False
        del self._awaited[packet_id]
        awaited.packet = packet
        awaited.done.set()
        return True

    def expire(self, now_ms: int) -> None:
        for packet_id in list(self._awaited):
            awaited = self._awaited[packet_id]
            if now_ms >= awaited.deadline_ms:
                self._fail(packet_id, MqttTimeout("the broker did not answer in time"))

    def fail_all(self, fault: Exception) -> None:
        for packet_id in list(self._awaited):
            self._fail(packet_id, fault)

    def _fail(self, packet_id: int, fault: Exception) -> None:
        awaited = self._awaited.pop(packet_id)
        awaited.fault = fault
        awaited.done.set()
