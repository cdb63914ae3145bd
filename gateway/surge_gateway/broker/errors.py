"""What can go wrong with the broker, for a person's eyes."""

from surge_host.errors import UserError


class BrokerError(UserError):
    """The broker can't be configured, started or reloaded: what, where (a setting or file), remedy."""
