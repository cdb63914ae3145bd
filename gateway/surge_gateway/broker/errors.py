"""What can go wrong with the broker, for a person's eyes."""

import errno

from surge_host.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class BrokerError(UserError):
    """The broker can't be configured, started or reloaded: what, where (a setting or file), remedy."""


class BrokerDiskFull(BrokerError):
    """It can't for want of room, which may come back by itself: worth trying again."""
