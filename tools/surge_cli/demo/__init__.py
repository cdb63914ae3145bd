"""``surge demo``: the whole network on this machine, with real parts and real readings.

Place in the flow: starts a backend, a gateway with its own MQTT broker, and devices that run the real
firmware in real MicroPython interpreters, exactly as their own commands would; shows what happens; checks
the invariants at the end; leaves nothing behind. Does not stand in for any part.
"""

from surge_cli.demo.command import SUMMARY, add_arguments, run

__all__ = ["SUMMARY", "add_arguments", "run"]
