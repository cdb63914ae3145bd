"""Whether a broker lets a device in yet: a gateway that has heard of ten thousand devices takes a while until
its broker has.

Place in the flow: before the fleet connects; one real login with one device's credentials, and out again.
Rule kept: bounded by PROBE_TIMEOUT_S; says only yes or no.
"""

import asyncio

from surge_cli.simulate.device import Identity
from surge_cli.simulate.dialler import Address
from surge_cli.simulate.link import Link

PROBE_TIMEOUT_S = 15.0


class _Probe:
    def __init__(self) -> None:
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def _say(self, answer: bool) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def on_up(self) -> None:
        self._say(True)

    def on_down(self, _reason: str, _refused: bool) -> None:
        self._say(False)

    def on_ack(self, payload: bytes) -> None:
        """Not asked for."""

    def on_command(self, payload: bytes) -> None:
        """Not asked for."""

    def on_writable(self) -> None:
        """Nothing is written."""


async def lets_in(identity: Identity, address: Address) -> bool:
    """Whether the broker at ``address`` takes this device's login and subscriptions now."""
    probe = _Probe()
    client_id = f"{identity.device_id}-probe"
    link = Link(identity.device_id, identity.password(), probe, client_id, announces=False)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await asyncio.get_running_loop().create_connection(lambda: link, address.host, address.port)
            return await probe.answer
    except OSError:  # TimeoutError is one
        return False
    finally:
        link.goodbye()
