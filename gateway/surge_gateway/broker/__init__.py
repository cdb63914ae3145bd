"""The MQTT broker that a gateway runs itself, or the files that a broker run by others needs.

Place in the flow: under everything; devices and the gateway's own client (`surge_gateway.mqtt`) meet there.
`surge_host.mqtt_credentials` makes verifiers from passwords; `nats_config` and `mosquitto_files` render
them; `embedded` runs nats-server.

Rules kept by both renderings, and tested by one contract suite: nothing anonymous; a device publishes only
its own `report` and `state` and reads only its own `ack` and `command`; the gateway reads every `report` and
`state` and publishes `ack` and `command`; whatever isn't granted is refused.
"""
