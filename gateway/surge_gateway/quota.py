"""How many reports a device may send: a token bucket (threat 18).

Place in the flow: pure; `ingress` asks before it decodes, so a flood costs little. Rule kept: what is over
the quota is refused and counted, not acknowledged: the device keeps it and sends it again later.
"""

from surge_gateway.devices import Device


class Quota:
    """`rate` reports per second on average, `burst` at once after a pause."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = float(burst)

    def take(self, device: Device, now_s: float) -> bool:
        """Take one report's token; False where there is none."""
        tokens = device.tokens + (now_s - device.refilled_s) * self._rate
        if tokens > self._burst:
            tokens = self._burst
        device.refilled_s = now_s
        if tokens < 1.0:
            device.tokens = tokens
            return False
        device.tokens = tokens - 1.0
        return True
