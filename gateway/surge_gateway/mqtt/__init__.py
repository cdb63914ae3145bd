"""The gateway's own MQTT client: `MqttLink`, a small port in front of the gmqtt library.

Place in the flow: takes every report and state from the broker and hands them to ingress in one synchronous
call; takes acknowledgements and commands for devices. Does not decode payloads, deduplicate or store
anything, and takes no part in the durability of reports (they are acknowledged end to end, at QoS 0).

`settings` holds the limits, `outgoing` the bounded queues (pure), `session` one connection, `bounded_gmqtt`
the library with its traps shut, `link` the life of the link: connect, subscribe, pump, reconnect.

The library was chosen by measurement (tests/bench/ingress_clients.py: one subscriber process, 60,000 messages
of 120 bytes at QoS 0, publisher in another process, median of 3 on two shared cores). Messages per second of
wall time, and of the subscriber's CPU time in brackets, as ratios to paho-mqtt 2.2 in the same run:

    client                nats-server 2.15.1    Mosquitto 2.0.11
    paho-mqtt 2.2         1.0  (1.0)            1.0  (1.0)
    aiomqtt 2.5           0.3  (0.4)            0.6  (0.5)
    awscrt 0.38           1.6  (1.4)            1.8  (1.5)
    gmqtt 0.8             3.8  (3.0)            2.2  (3.5)
    MqttLink (on gmqtt)   4.5  (8.8)            2.6  (4.9)

The last line was 147,000 messages/s (521,000 per CPU-second) and 75,000 (241,000): broker and publisher were
the limit there. Nothing was lost in any run.
"""

from surge_gateway.mqtt.link import LinkStatistics, MqttLink
from surge_gateway.mqtt.settings import MqttSettings

__all__ = ("LinkStatistics", "MqttLink", "MqttSettings")
