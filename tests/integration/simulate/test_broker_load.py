"""More devices on one real broker than nats-server lets a stream have consumers by default."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from surge_cli.demo.parts import free_port
from surge_cli.simulate.device import make_identity
from surge_cli.simulate.dialler import Address
from surge_cli.simulate.fleet import Fleet
from surge_cli.simulate.journal import Journal
from surge_cli.simulate.plan import Plan
from surge_gateway.broker.embedded import EmbeddedBroker
from surge_gateway.broker.settings import BrokerSettings
from surge_host.mqtt_credentials import make_device_credential, make_gateway_credential
from surge_wire.ids import DEVICE, GATEWAY, make_id

DEVICES = 1_100  # each with one subscription at QoS 1: one consumer of one stream
TIMEOUT_S = 300  # a bound for a hung run, not a claim about speed


async def test_a_broker_takes_more_than_a_thousand_devices(tmp_path: Path) -> None:
    identities = [
        make_identity(make_id(DEVICE, number.to_bytes(10, "big")), number.to_bytes(32, "big"))
        for number in range(DEVICES)
    ]
    with ThreadPoolExecutor() as pool:
        credentials = list(
            pool.map(lambda one: make_device_credential(one.device_id, one.password()), identities)
        )
    gateway = make_gateway_credential(make_id(GATEWAY, bytes(10)), "g" * 43)
    settings = BrokerSettings(port=free_port(), folder=tmp_path)
    async with EmbeddedBroker(settings, gateway, credentials):
        address = Address(settings.host, settings.port)
        async with Fleet(identities, [address], Plan(1, DEVICES), Journal()) as fleet:
            await fleet.connect(TIMEOUT_S)
            assert fleet.online == DEVICES
