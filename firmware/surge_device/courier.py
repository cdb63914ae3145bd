"""Takes sealed reports to the gateway and takes its acks and commands in.

Between the outbox and the MQTT client. Reports go out at QoS 0 and stay in the outbox until an ack of the
gateway covers them: a broker's word is worth nothing here, because brokers lose what they confirmed. Doesn't
seal (``sealer``) or reconnect (``mqtt``). Rules:
- ``on_message`` runs inside the MQTT reader: it neither waits nor raises.
- An ack deletes exactly what it covers; anything else on its topic is counted and ignored.
- What isn't acked within a pause is sent again, the same bytes. The pause doubles up to RETRY_MAX_MS; an ack
  that covered something shows that the gateway is there, and makes it short again. What was sent since the
  pause began isn't repeated, so that one lost report among many costs one.
- On a new link all that waits is sent again at once.
"""

from surge_device.clock import SOURCE_ACK
from surge_device.mqtt_errors import MqttError
from surge_wire import topics
from surge_wire.ack import decode_ack
from surge_wire.errors import DecodeError
from surge_wire.limits import ACK_LEN_MAX

RETRY_MIN_MS = 4000  # longer than a gateway with default settings takes to ack
RETRY_MAX_MS = 60000
WAKE_MS = 1000


class Courier:
    def __init__(self, device, outbox, sealer, clock, commands, alarm, log):
        """``attach`` gives it the client, which needs ``on_message`` and ``on_link`` first."""
        self.sent = 0  # repetitions included
        self.acked = 0
        self.refused = 0  # messages that were no ack, or too long
        self._outbox = outbox
        self._sealer = sealer
        self._clock = clock
        self._commands = commands
        self._alarm = alarm
        self._log = log
        self._client = None
        self._report_topic = topics.topic(device, topics.REPORT)
        self._state_topic = topics.topic(device, topics.STATE)
        self._ack_topic = topics.topic(device, topics.ACK)
        self._command_topic = topics.topic(device, topics.COMMAND)
        self._announce = False
        self._forget_link()

    def subscriptions(self):
        """What the client has to be subscribed to before a link counts as up."""
        return ((self._ack_topic, 0), (self._command_topic, 1))

    def will(self):
        """The last will, as MqttSettings takes it."""
        return (self._state_topic, topics.STATE_OFFLINE, 1, True)

    def attach(self, client):
        self._client = client

    def wake(self):
        """There is something new to seal or send."""
        self._alarm.ring()

    def on_link(self, up, fault):
        """A new link: say so and send everything again that waits."""
        self._announce = up
        self._forget_link()
        self._alarm.ring()

    def on_message(self, topic, payload, retain):
        if topic == self._ack_topic:
            self._take_ack(payload)
        elif topic == self._command_topic:
            self._commands.take(bytes(payload), retain)
        else:
            self.refused += 1

    async def run(self, alive):
        """Send until cancelled. ``alive()`` is called at least every WAKE_MS and a half."""
        while True:
            await self._alarm.wait_ms(WAKE_MS)
            alive()
            self._sealer.seal_waiting()
            if self._client.up.is_set():
                try:
                    await self._send_due(alive)
                except MqttError as fault:
                    self._log.debug("send.later", fault)

    async def say_goodbye(self):
        """Before the device closes the link itself, for which a broker has no last will."""
        if self._client.up.is_set():
            try:
                await self._client.publish(self._state_topic, topics.STATE_OFFLINE, 1, True)
            except MqttError as fault:
                self._log.debug("goodbye", fault)

    def _forget_link(self):
        self._sent_to = None  # (boot, seq): the last one sent on this link
        self._repeat_to = None  # what a repetition goes up to: sent before the pause began
        self._retry_at_ms = None  # end of the pause; None while nothing sent waits for its ack
        self._retry_ms = RETRY_MIN_MS

    def _take_ack(self, payload):
        if len(payload) > ACK_LEN_MAX:
            self.refused += 1
            return
        try:
            ack = decode_ack(bytes(payload))
        except DecodeError as error:
            self.refused += 1
            self._log.warning("ack.refused", error)
            return
        self._clock.set_unix_ms(ack.time_ms, SOURCE_ACK)
        count = self._outbox.ack(ack.boot, ack.ranges)
        if count:
            self.acked += count
            self._retry_ms = RETRY_MIN_MS
            if self._retry_at_ms is not None:
                self._retry_at_ms = min(self._retry_at_ms, self._clock.uptime_ms() + RETRY_MIN_MS)
            self._alarm.ring()

    async def _send_due(self, alive):
        if self._announce:
            await self._client.publish(self._state_topic, topics.STATE_ONLINE, 1, True)
            self._announce = False
        if not self._outbox.in_flight:
            self._retry_at_ms = None
            self._retry_ms = RETRY_MIN_MS
        elif self._retry_at_ms is not None and self._clock.uptime_ms() >= self._retry_at_ms:
            self._retry_ms = min(2 * self._retry_ms, RETRY_MAX_MS)
            self._retry_at_ms = None
            await self._send(None, self._repeat_to, alive)
        await self._send(self._sent_to, None, alive)
        if self._retry_at_ms is None and self._outbox.in_flight:
            self._retry_at_ms = self._clock.uptime_ms() + self._retry_ms
            self._repeat_to = self._sent_to

    async def _send(self, after, up_to, alive):
        """Send what waits above ``after``, no further than ``up_to`` where that is given."""
        for boot, seq, envelope in self._outbox.unacked(after):
            if up_to is not None and (boot, seq) > up_to:
                return
            await self._client.publish(self._report_topic, envelope)
            if self._sent_to is None or (boot, seq) > self._sent_to:
                self._sent_to = (boot, seq)
            self.sent += 1
            alive()
