"""What the MQTT modules raise. Each class says whose fault it is, so that the caller knows whether waiting
helps.

Rules: no text here carries a password or a payload; what the broker sent appears as a number or a fixed
phrase.
"""

from surge_device.errors import DeviceError

REFUSALS = (
    "accepted",
    "it does not speak MQTT 3.1.1",
    "it does not allow this client id",
    "it is not available now",
    "wrong user name or password",
    "not authorised",
)  # by return code, MQTT 3.1.1 section 3.2.2.3


class MqttError(DeviceError):
    """Base of everything that the MQTT modules raise."""


class MqttEncodeError(MqttError):
    """Our fault: the values asked for make no valid packet."""


class MqttProtocolError(MqttError):
    """The broker's fault: it sent what MQTT 3.1.1 forbids. The connection can't be used any further (4.8)."""

    def __init__(self, reason: str) -> None:
        super().__init__("the broker broke the protocol: " + reason)
        self.reason = reason


class MqttLinkLost(MqttError):
    """There is no link to the broker, or it broke while the caller waited."""


class MqttTimeout(MqttError):
    """The broker did not answer within the time set for it."""


class MqttBusy(MqttError):
    """As many acknowledgements are awaited as the limit allows: wait for one before asking for more."""


class MqttTlsError(MqttError):
    """TLS could not be set up, or the broker's certificate was not accepted."""


class MqttRefused(MqttError):
    """The broker answered CONNECT with a refusal; ``code`` is that of 3.2.2.3."""

    def __init__(self, code: int) -> None:
        super().__init__("the broker refused the connection (code %d): %s" % (code, REFUSALS[code]))
        self.code = code


class MqttCredentialsRefused(MqttRefused):
    """Codes 4 and 5: trying again soon can't help. Compare the device's id and secret with its enrolment."""


class MqttSubscribeRefused(MqttError):
    """The broker refused a subscription (0x80); ``topic`` is the filter that it refused."""

    def __init__(self, topic: str) -> None:
        super().__init__("the broker refused to subscribe %r: check this user's permissions" % topic)
        self.topic = topic


class MqttUnacknowledged(MqttError):
    """No PUBACK came for a QoS 1 publish: it may or may not have arrived. ``packet_id`` is for sending it
    again.
    """

    def __init__(self, packet_id: int, reason: str) -> None:
        super().__init__("publish %d was not acknowledged: %s" % (packet_id, reason))
        self.packet_id = packet_id
