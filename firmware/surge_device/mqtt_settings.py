"""Settings of the MQTT client, its limits, and how long it waits before it tries again.

Pure. The device's settings file is not read here: ``surge_device.settings`` does that and fills this in.
Rules: every time is in milliseconds unless the name says otherwise; a wrong value is an error that names
the setting. The password is never part of a text.
"""

from surge_device.mqtt_errors import MqttEncodeError, MqttError, MqttSubscribeRefused
from surge_device.mqtt_packets import KEEP_ALIVE_MAX_S, PACKET_LEN_MAX, const

IN_FLIGHT_MAX = const(8)  # acknowledgements awaited at once; one more is MqttBusy
SUBSCRIPTIONS_MAX = const(8)  # filters remembered for the next connection; one more is an error
READ_LEN = const(256)  # bytes taken from the socket at once
TICK_MS = const(250)  # how often deadlines are looked at, so a time-out is late by this much at most
STABLE_MS = const(30000)  # a link that lived this long starts the back-off anew


class MqttSettings:
    """``host``, ``port``, ``client_id``; by keyword any of the attributes below. ``repr`` shows no value."""

    def __init__(self, host, port, client_id, **others):
        self.host = host
        self.port = port
        self.client_id = client_id
        self.user = None
        self.password = None
        self.keep_alive_s = 60  # at least 1: without it a dead link would never be found
        self.clean_session = True
        self.will = None  # (topic, payload, qos, retain)
        self.packet_len_max = PACKET_LEN_MAX  # two buffers of this size are made
        self.tls = False
        self.tls_ca_file = None  # PEM or DER, one certificate
        self.tls_verify = True  # False: any certificate passes, and a warning is logged at each connection
        self.server_hostname = None  # the name in the broker's certificate, when it isn't ``host``
        self.io_timeout_ms = 20000  # TCP connection; TLS handshake; one write
        self.ack_timeout_ms = 10000  # CONNACK, SUBACK, PUBACK
        self.ping_timeout_ms = 10000  # PINGRESP
        self.backoff_base_ms = 1000
        self.backoff_cap_ms = 60000
        self.refused_backoff_ms = 300000  # the cap after refusals
        for name, value in others.items():
            if name not in self.__dict__:
                raise MqttError("there is no MQTT setting %r" % name)
            setattr(self, name, value)
        self._check()

    def _check(self):
        if not self.host or not 0 < self.port < 65536:
            raise MqttError("host and port of the broker are needed, the port between 1 and 65535")
        if not 0 < self.keep_alive_s <= KEEP_ALIVE_MAX_S:
            raise MqttError("keep_alive_s must be between 1 and %d" % KEEP_ALIVE_MAX_S)
        for name, least in (
            ("packet_len_max", 128),
            ("io_timeout_ms", 1),
            ("ack_timeout_ms", 1),
            ("ping_timeout_ms", 1),
            ("backoff_base_ms", 1),
            ("backoff_cap_ms", self.backoff_base_ms),
            ("refused_backoff_ms", 1),
        ):
            if getattr(self, name) < least:
                raise MqttError("%s must be at least %d" % (name, least))

    def connect_values(self):
        """What ``encode_connect`` takes."""
        who = (self.client_id, self.user, self.password)
        return who + (self.keep_alive_s, self.clean_session, self.will)

    def backoff_ms(self, failures: int, fault: Exception, chance: float) -> int:
        """How long to wait after the ``failures``-th failure in a row; ``chance`` is from [0, 1).

        Full jitter: anything from 0 to base doubled per failure, up to the cap, so that a thousand boards
        do not come back at once. After a refusal it is at least half of that, and doubling goes on up to
        ``refused_backoff_ms``: most refusals need a person, but a device that was enrolled a moment ago is
        refused only until its gateway has heard of it.
        """
        refused = isinstance(fault, (MqttSubscribeRefused, MqttEncodeError)) or getattr(fault, "code", 3) != 3
        cap = self.refused_backoff_ms if refused else self.backoff_cap_ms
        ceiling = self.backoff_base_ms
        for _ in range(failures - 1):
            if ceiling >= cap:
                break
            ceiling *= 2
        ceiling = min(ceiling, cap)
        if refused:
            return ceiling // 2 + int(chance * (ceiling // 2))
        return int(chance * ceiling)
