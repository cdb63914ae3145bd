"""What follows when spool bytes turn out damaged while the gateway runs.

Place in the flow: after every visit to the disk thread. The damaged bytes were acknowledged reports, and
which ones can't be read any more. A device that still has one of them (its ack was lost) sends it again; it
must not be taken for a duplicate, acknowledged and thus lost for good. So everything that was known to be on
disk is forgotten: what is sent again is stored again, and the backend counts each report once (threat 14).
"""

import structlog

from surge_gateway.devices import Devices
from surge_gateway.quarantine import Quarantine

log = structlog.get_logger()


class Distrust:
    """`look` in the loop's thread, where ingress and acks are."""

    def __init__(self, quarantine: Quarantine, devices: Devices) -> None:
        self._quarantine = quarantine
        self._devices = devices
        self._seen = quarantine.spans  # what recovery found is not in what it remembered

    def look(self) -> None:
        """Forget what devices were told, if damage was found since the last look."""
        if self._quarantine.spans == self._seen:
            return
        new, self._seen = self._quarantine.spans - self._seen, self._quarantine.spans
        self._devices.forget_durable()
        log.error(
            "acknowledged_reports_damaged",
            spans=new,
            consequence="reports in them are lost unless a device still has them; what devices send again "
            "is stored again",
            remedy="check the disk under [gateway] state_dir; the damaged bytes are in its quarantine folder",
        )
