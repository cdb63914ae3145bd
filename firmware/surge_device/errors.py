"""The errors of the firmware's own parts; each says what happened, to what, and what to do next.

The wire's errors are in ``surge_wire.errors``. Nothing here carries a secret in its text.
"""


class DeviceError(Exception):
    """Base of every error that the firmware raises itself."""


class SettingsError(DeviceError):
    """A settings file that can't be used: unknown key, wrong type, out of range."""


class IdentityError(DeviceError):
    """The device's identity is absent or malformed."""


class CellLost(DeviceError):
    """Both copies of a persisted counter are damaged or gone, so its value isn't known."""


class BootCounterLost(CellLost):
    """The boot counter isn't known; starting at a guess could repeat a (boot, seq)."""


class OutboxError(DeviceError):
    """The outbox was used against its rules; a fault of the caller."""


class OutboxFull(DeviceError):
    """There is no room (limit or file system); the text says which."""


class SensorError(DeviceError):
    """A sensor gave no reading; ``reason`` is short and fit to be reported."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class NetworkError(DeviceError):
    """The network didn't come up, or went; the text says what was tried."""
