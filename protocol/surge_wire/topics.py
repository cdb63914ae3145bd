"""MQTT topics: ``surge/1/<device id>/<channel>`` (spec/topics.md)."""

from .errors import DecodeError
from .ids import DEVICE, is_id

ROOT = "surge/1/"
REPORT = "report"  # device -> gateway, QoS 0
STATE = "state"  # device -> gateway, retained, QoS 1, also the last will
ACK = "ack"  # gateway -> device, QoS 0
COMMAND = "command"  # gateway -> device, QoS 1
CHANNELS = (REPORT, STATE, ACK, COMMAND)

STATE_ONLINE = b"online"
STATE_OFFLINE = b"offline"

ALL_REPORTS = ROOT + "+/" + REPORT
ALL_STATES = ROOT + "+/" + STATE


def topic(device_id: str, channel: str) -> str:
    """The topic of one device's channel."""
    return ROOT + device_id + "/" + channel


def parse_topic(text: str) -> "tuple[str, str]":
    """``(device id, channel)``. Raises DecodeError."""
    parts = text.split("/")
    if len(parts) != 4 or parts[0] != "surge" or parts[1] != "1":
        raise DecodeError("topic not ours")
    if not is_id(DEVICE, parts[2]) or parts[3] not in CHANNELS:
        raise DecodeError("topic not ours")
    return parts[2], parts[3]
