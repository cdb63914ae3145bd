"""Brings links up, so many at a time: a broker that checks passwords lets about a thousand devices a second
in, and ten thousand at once would time out together.

Place in the flow: members and adversaries ask for a link and are told by `LinkOwner`'s methods. Does not
decide when to try again (``member``). Rules kept: at most CONNECTING_MAX are under way; each is given up
after LOGIN_TIMEOUT_MS; a refusal of the system (no descriptors, no ports) is told to the owner like any.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial

from surge_cli.simulate.link import Link
from surge_cli.simulate.wheel import Wheel

CONNECTING_MAX = 128
LOGIN_TIMEOUT_MS = 20_000


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway's broker listens."""

    host: str
    port: int


class Dialler:
    """``dial`` puts a link into the queue; ``done`` must be called when it is up or down."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._waiting: deque[tuple[Link, Address]] = deque()
        self._under_way: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(self, link: Link, address: Address) -> None:
        """Connect ``link`` as soon as it is its turn."""
        self._waiting.append((link, address))
        self._pump()

    def done(self, link: Link) -> None:
        """It is up, or over."""
        if link in self._under_way:
            self._under_way.discard(link)
            self._pump()

    def _pump(self) -> None:
        while self._waiting and len(self._under_way) < CONNECTING_MAX:
            link, address = self._waiting.popleft()
            if link.over:
                continue
            self._under_way.add(link)
            task = asyncio.create_task(self._connect(link, address), name="dial")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._wheel.at(self._wheel.now_ms() + LOGIN_TIMEOUT_MS, partial(_give_up, link))

    async def _connect(self, link: Link, address: Address) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT_MS / 1000):
                await loop.create_connection(lambda: link, address.host, address.port)
        except OSError as error:  # TimeoutError is one
            link.close(f"can't connect: {error.strerror or 'time is up'}")

    async def close(self) -> None:
        """Forget the queue and end what is under way."""
        self._waiting.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _give_up(link: Link, _now_ms: int) -> None:
    if not link.up and not link.over:
        link.close("the broker took too long to let it in")
