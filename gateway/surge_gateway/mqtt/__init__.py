"""The gateway's own MQTT client: `MqttLink`, a small port in front of the gmqtt library.

Place in the flow: takes every report and state from the broker and hands them to ingress in one synchronous
call; takes acknowledgements and commands for devices. Does not decode payloads, deduplicate or store
anything, and takes no part in the durability of reports (they are acknowledged end to end, at QoS 0).

`settings` holds the limits, `outgoing` the bounded queues (pure), `session` one connection (gmqtt, and what
keeps its traps shut), `link` the life of the link: connect, subscribe, pump, reconnect.

The library was chosen by measurement (tests/bench/ingress_clients.py: one subscriber process, messages of 120
bytes at QoS 0, publisher in another process).
"""

from surge_gateway.mqtt.link import LinkStatistics, MqttLink
from surge_gateway.mqtt.settings import MqttSettings

__all__ = ("LinkStatistics", "MqttLink", "MqttSettings")
