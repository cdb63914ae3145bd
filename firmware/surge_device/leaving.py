"""How the device ends in order: at the backend's command, or when the system asks for it.

Between the commands, the board and the courier. A power cut needs none of this: nothing here is relied on.
Rule: a broker that doesn't answer delays the end by GOODBYE_MS and no more.
"""

import asyncio

RESTART_DELAY_MS = 500  # lets the PUBACK of the command go out
STOP_LOOK_MS = 200
GOODBYE_MS = 2000
EXIT_CODE_SIGNAL = 128  # and the signal's number, as shells have it


class Leaving:
    def __init__(self, board, courier, client):
        self._board = board
        self._courier = courier
        self._client = client

    async def restart(self):
        """Doesn't return."""
        await asyncio.sleep_ms(RESTART_DELAY_MS)
        await self._say_goodbye()
        self._board.reset()

    async def run(self, check_in):
        """Until the system asks the firmware to end; for boards that can tell."""
        while True:
            check_in()
            signal = self._board.stop_asked()
            if signal:
                await self._say_goodbye()
                raise SystemExit(EXIT_CODE_SIGNAL + signal)
            await asyncio.sleep_ms(STOP_LOOK_MS)

    async def _say_goodbye(self):
        try:
            await asyncio.wait_for_ms(self._courier.say_goodbye(), GOODBYE_MS)
        except asyncio.TimeoutError:
            pass  # the broker's last will says it later
        await self._client.close()
