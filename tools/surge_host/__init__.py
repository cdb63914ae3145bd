"""What gateway, backend and command share on a host: errors for people, settings, MQTT verifiers, locks.

Place in the flow: below all three, above ``surge_wire``; imports none of them.
"""

__version__ = "0.1.0"
