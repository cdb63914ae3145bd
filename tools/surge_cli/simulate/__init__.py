"""``surge simulate``: thousands of devices against a real network, with everything that goes wrong, from a
seed.

Place in the flow: starts a broker, gateways and a backend, exactly as their own commands would, and drives
simulated devices against them in this process; shows how it goes, and at the end compares, report by report,
what was made with what was paid. ``fleet`` says how to use the fleet from Python. Does not stand in for the
firmware: ``surge demo`` runs that.
"""

from surge_cli.simulate.command import SUMMARY, add_arguments, run

__all__ = ["SUMMARY", "add_arguments", "run"]
