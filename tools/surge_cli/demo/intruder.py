"""An enrolled device that misbehaves: the demo's proof, on the running network, that devices are kept apart.

Place in the flow: ``demo.outcome`` runs it once before the network is taken down. It connects to the real
broker with the real credentials of one of the demo's devices and sends, in this order on one connection:

1. bytes that are no report, on *another* device's topic: the broker must drop them, or the gateway would
   count them as malformed;
2. a report that names the other device, under the wrong key, on its own topic: the gateway must refuse it.

The second being refused proves that the first was handled. Rule kept: it only ever tries what must not work.
"""

import asyncio
import secrets
from dataclasses import dataclass

import gmqtt

from surge_cli.demo.network import Network
from surge_cli.demo.parts import BoardPart, load_identity
from surge_wire.hkdf import INFO_REPORT, derive_key, mqtt_password
from surge_wire.ids import DEVICE, make_id
from surge_wire.report import Report, seal_report
from surge_wire.senml import make_record
from surge_wire.topics import REPORT, topic

TIMEOUT_S = 20
POLL_S = 0.1
FAR_BOOT = 4_000_000_000  # no honest device of the demo gets there
MQTT_3_1_1 = 4


@dataclass(frozen=True)
class Intrusion:
    """What the gateway counted meanwhile: messages that the broker let through, and reports refused for
    their id."""

    malformed: int
    id_mismatch: int

    @property
    def contained(self) -> bool:
        """The first never arrived, the second was refused."""
        return self.malformed == 0 and self.id_mismatch == 1


def _forged(device_id: str, secret: bytes) -> bytes:
    report = Report(FAR_BOOT, 0, 0, pack=[make_record("forged", "", 1)])
    return seal_report(device_id, derive_key(secret, INFO_REPORT), report)


async def intrude(network: Network) -> Intrusion:
    """Try it with the first device's credentials against the last one's name, or where it is alone a made-
    up one."""
    intruder = network.devices[0]
    victim_id = network.devices[-1].device_id
    if victim_id == intruder.device_id:
        victim_id = make_id(DEVICE, secrets.token_bytes(10))
    before = await _refused(network)
    await asyncio.wait_for(_send(network, intruder, victim_id), TIMEOUT_S)
    async with asyncio.timeout(TIMEOUT_S):
        after = await _refused(network)
        while after["id_mismatch"] == before["id_mismatch"]:
            await asyncio.sleep(POLL_S)
            after = await _refused(network)
    return Intrusion(after["malformed"] - before["malformed"], after["id_mismatch"] - before["id_mismatch"])


async def _refused(network: Network) -> dict[str, int]:
    return dict((await network.gateway.status())["reports"]["refused"])


async def _send(network: Network, intruder: BoardPart, victim_id: str) -> None:
    identity = load_identity(intruder.folder)
    secret = bytes.fromhex(identity["secret"])
    connected = asyncio.Event()
    client = gmqtt.Client(f"intruder-{secrets.token_hex(4)}")
    client.on_connect = lambda *_: connected.set()
    client.set_auth_credentials(intruder.device_id, mqtt_password(secret))
    await client.connect("127.0.0.1", network.gateway.broker_port, version=MQTT_3_1_1)
    try:
        await connected.wait()
        client.publish(topic(victim_id, REPORT), b"not a report", qos=0)
        client.publish(topic(intruder.device_id, REPORT), _forged(victim_id, secret), qos=0)
        await asyncio.sleep(0)
    finally:
        await client.disconnect()
