"""Whether reports carry their device's MAC: checked where the report key is given, else taken as the log
says.

Place in the flow: ``registry_audit`` asks for each device's key; ``verdict_audit`` for what was taken on
trust.

Does not: hold a device's secret. A report key (``surge/1 report``) checks and makes reports of its device,
and opens nothing else.
"""

from collections.abc import Mapping

from surge_backend.verify.mac import MacKey


class _TakenOnTrust(MacKey):
    """Stands for a key that isn't given."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def valid(self, message: bytes, tag: bytes) -> bool:
        """Yes."""
        return True


TRUSTED = _TakenOnTrust()


class Macs:
    """``report_keys``: 32 bytes for each device whose MACs shall be checked."""

    def __init__(self, report_keys: Mapping[str, bytes] | None = None) -> None:
        self._report_keys = report_keys or {}
        self.given = report_keys is not None

    def of(self, device_id: str) -> MacKey:
        """What checks a device's reports."""
        key = self._report_keys.get(device_id)
        return TRUSTED if key is None else MacKey(key)
