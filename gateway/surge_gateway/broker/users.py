"""What every broker configuration checks about its users before a byte is rendered.

Place in the flow: called by `nats_config` and `mosquitto_files`. Pure. Rule kept: an id or verifier that is
not of its exact form never reaches a configuration file, so nothing can be injected there (threat 17).
"""

from collections.abc import Sequence

from surge_gateway.broker.errors import BrokerError
from surge_host.mqtt_credentials import (
    DeviceCredential,
    GatewayCredential,
    is_bcrypt,
    is_mosquitto_pbkdf2,
)
from surge_wire.ids import DEVICE, GATEWAY, is_id

DEVICES_MAX = 100_000  # more are refused: at 10,000 a reload already takes seconds, so use more gateways

_SHOWN_CHARACTERS_MAX = 40


def check_users(gateway: GatewayCredential, devices: Sequence[DeviceCredential]) -> None:
    """Raises BrokerError for an id or verifier of the wrong form, an id given twice, or too many devices."""
    if len(devices) > DEVICES_MAX:
        raise BrokerError(
            f"{len(devices)} devices for one broker; it takes {DEVICES_MAX}",
            "the list of device credentials",
            "share the devices among several gateways",
        )
    if not is_id(GATEWAY, gateway.gateway_id):
        raise _bad_id("gateway", gateway.gateway_id)
    _check_verifiers(gateway.gateway_id, gateway.bcrypt, gateway.pbkdf2_sha512)
    seen = set()
    for device in devices:
        if not is_id(DEVICE, device.device_id):
            raise _bad_id("device", device.device_id)
        if device.device_id in seen:
            raise BrokerError(
                "device given twice", device.device_id, "give each device one credential: the newest one"
            )
        seen.add(device.device_id)
        _check_verifiers(device.device_id, device.bcrypt, device.pbkdf2_sha512)


def _check_verifiers(user: str, bcrypt_verifier: str, pbkdf2_verifier: str) -> None:
    if not is_bcrypt(bcrypt_verifier):
        raise _bad_verifier("bcrypt", user)
    if not is_mosquitto_pbkdf2(pbkdf2_verifier):
        raise _bad_verifier("PBKDF2", user)


def _bad_id(kind: str, text: object) -> BrokerError:
    return BrokerError(
        f"not a {kind} id",
        repr(text)[:_SHOWN_CHARACTERS_MAX],
        f"give the id as enrolled: {kind[0]} and 16 characters of a-z2-7",
    )


def _bad_verifier(kind: str, user: str) -> BrokerError:
    # The verifier itself is not shown: it could be a password that was passed by mistake.
    return BrokerError(
        f"not a {kind} verifier", f"credential of {user}", "make it with surge_host.mqtt_credentials"
    )
