"""Which broker the gateway uses and how it connects: its own nats-server, or one that others run.

Place in the flow: called by `app` once. Rules kept: the password of the embedded broker is made anew for
each run and is never on disk; with TLS the gateway connects by a name that is in the certificate.
"""

import dataclasses
import secrets
from collections.abc import Sequence

from surge_gateway.broker.embedded import EmbeddedBroker
from surge_gateway.files import Files
from surge_gateway.identity import Identity, read_mqtt_password
from surge_gateway.mqtt import MqttSettings
from surge_gateway.settings import Settings
from surge_host.mqtt_credentials import DeviceCredential, make_gateway_credential
from surge_host.settings_values import Secret

EVERY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on


def make_broker(
    settings: Settings, identity: Identity, files: Files, devices: Sequence[DeviceCredential]
) -> tuple[EmbeddedBroker | None, MqttSettings]:
    """The broker to run, None for an external one, and how to connect to it. Raises IdentityError."""
    if settings.gateway.broker == "external":
        password = settings.mqtt.password or read_mqtt_password(files, settings.gateway.state_dir)
        user = settings.mqtt.user or identity.gateway_id
        return None, dataclasses.replace(settings.mqtt, user=user, password=password)
    password = Secret(secrets.token_urlsafe(32))
    tls = settings.broker.tls_certificate is not None
    host = settings.broker.host
    if tls:
        host = settings.mqtt.host
    elif host in EVERY_ADDRESS:
        host = "127.0.0.1"
    mqtt = dataclasses.replace(
        settings.mqtt,
        host=host,
        port=settings.broker.port,
        user=identity.gateway_id,
        password=password,
        tls=tls,
    )
    credential = make_gateway_credential(identity.gateway_id, password.reveal())
    return EmbeddedBroker(settings.broker, credential, devices), mqtt
