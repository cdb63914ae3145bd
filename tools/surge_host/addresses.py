"""Addresses that people give: is it this machine, so that nothing travels?

Place in the flow: whoever sends a token or a secret asks before it uses plain HTTP.
"""

from ipaddress import ip_address


def is_this_machine(host: str) -> bool:
    """Whether ``host`` is this machine's loopback, by name or number."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
