"""Takes the backend's commands: checks, remembers, then acts.

Between the courier, which hands over bytes, and whatever a command changes. Rules (spec/command.md): the
MAC, the device id and a counter above the last one decide; the counter is on flash before anything is done,
so that no command ever runs twice (a power cut between the two loses it, and the backend sees the counter);
an operation that isn't known, or arguments that make no sense, are remembered and skipped.
"""

from surge_device.errors import CellLost
from surge_wire import command
from surge_wire.errors import DecodeError
from surge_wire.hkdf import INFO_COMMAND, derive_key

INTERVAL_MIN_S = 1
INTERVAL_MAX_S = 86400


class Commands:
    def __init__(self, identity, clock, log, actions):
        """``actions`` maps an operation's number to a function of its arguments (a map), which doesn't
        wait, and returns why it did nothing, or None."""
        self.last = identity.last_command()
        self.refused = 0
        self._identity = identity
        self._key = derive_key(identity.secret, INFO_COMMAND)
        self._clock = clock
        self._log = log
        self._actions = actions

    def take(self, envelope, retain=False):
        """Execute one command; returns whether it was executed. Never raises for what was sent."""
        try:
            found = command.open_command(envelope, self._identity.device, self._key)
        except DecodeError as error:
            return self._refuse(error)
        if found.counter <= self.last:
            return False  # the gateway repeats a command until it sees the counter come back
        now_ms = self._clock.now_ms()
        if found.expires_ms is not None and now_ms is not None and now_ms > found.expires_ms:
            return self._refuse("expired")
        try:
            self._identity.executed_command(found.counter)
        except (OSError, CellLost) as error:
            return self._refuse(error)  # not spent: it may come again once the flash works
        self.last = found.counter
        action = self._actions.get(found.operation)
        if action is None:
            return self._refuse("operation %d is not known" % found.operation)
        why = action(found.arguments or {})
        if why:
            return self._refuse(why)
        self._log.info("command", found.operation, "counter=%d" % found.counter)
        return True

    def _refuse(self, why):
        self.refused += 1
        self._log.warning("command.refused", why)
        return False


def interval_ms(arguments):
    """The report interval in the arguments of SET_REPORT_INTERVAL, or None if it is out of range."""
    seconds = arguments.get(1)
    if type(seconds) is not int or not INTERVAL_MIN_S <= seconds <= INTERVAL_MAX_S:
        return None
    return seconds * 1000
