"""Devices that publish as fast as the broker takes it: garbage, wrong MACs, bad packs and replays.

Place in the flow: `credit_latency` starts one process of these beside its honest fleet, so that what slows
the honest down is the network and not the fleet's own event loop. Does not wait for acks, or keep to any pace
but the connection's: a full transport is the only thing that holds a device back. Rule kept: what is counted
was given to a connection that was up.
"""

import asyncio
import multiprocessing.connection
from collections.abc import Sequence
from typing import Any

from surge_cli.simulate.adversaries import FLOOD_CHUNK, FLOOD_LEN, make_rubbish
from surge_cli.simulate.device import Identity
from surge_cli.simulate.dialler import Address
from surge_cli.simulate.link import Link
from surge_cli.simulate.stage import make_pack
from surge_wire.report import Report, seal_report


class Flooding:
    """One device: FLOOD_LEN messages, made before, again and again."""

    def __init__(self, identity: Identity, index: int, failed: "asyncio.Future[None]") -> None:
        old = seal_report(identity.device_id, identity.report_key, Report(1, 0, 1, None, make_pack(index, 0)))
        self._messages = [make_rubbish(identity, index, number, old)[1] for number in range(FLOOD_LEN)]
        self._failed = failed
        self._pouring = False
        self._device_id = identity.device_id
        self.link = Link(identity.device_id, identity.password(), self)
        self.published = 0

    def on_up(self) -> None:
        """Begin."""
        self._pour()

    def on_writable(self) -> None:
        """Go on."""
        if not self._pouring:
            self._pour()

    def _pour(self) -> None:
        self._pouring = self.link.up and self.link.writable
        if not self._pouring:
            return
        for _ in range(FLOOD_CHUNK):
            if self.link.publish_report(self._messages[self.published % FLOOD_LEN]):
                self.published += 1
        asyncio.get_running_loop().call_soon(self._pour)  # the others' turn comes first

    def on_ack(self, payload: bytes) -> None:
        """Not listened to."""

    def on_command(self, payload: bytes) -> None:
        """Not listened to."""

    def on_down(self, reason: str, _refused: bool) -> None:
        """A flood that ends by itself measures nothing."""
        if reason != "left" and not self._failed.done():
            self._failed.set_exception(ConnectionError(f"the flooding device {self._device_id}: {reason}"))


def flood(
    identities: Sequence[Identity], address: Address, stop: Any, told: "multiprocessing.connection.Connection"
) -> None:
    """A process of its own, until ``stop``: sends how many messages the devices published, or why they
    could not."""
    try:
        told.send(asyncio.run(_flood(identities, address, stop)))
    except OSError as error:
        told.send(str(error))


async def _flood(identities: Sequence[Identity], address: Address, stop: Any) -> int:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    devices = [Flooding(identity, index, failed) for index, identity in enumerate(identities)]
    for device in devices:
        await loop.create_connection(lambda link=device.link: link, address.host, address.port)  # type: ignore[misc]
    stopped = asyncio.create_task(asyncio.to_thread(stop.wait))
    await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        failed.result()
    for device in devices:
        device.link.goodbye()
    return sum(device.published for device in devices)
