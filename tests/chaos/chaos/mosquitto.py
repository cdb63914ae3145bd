"""A Mosquitto beside a gateway, set up with the files that ``surge gateway mosquitto-files`` writes.

Place in the flow: ``site`` starts one for each gateway where the plan says so; a part like the others.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from surge_cli.demo.parts import GatewayPart, Part, run_surge
from surge_host.errors import UserError


class MosquittoPart(Part):
    """At the gateway's ``broker_port``."""

    def __init__(self, folder: Path, gateway: GatewayPart) -> None:
        super().__init__(f"the broker of {gateway.name}", folder / f"{gateway.name}-mosquitto.log")
        self._folder = folder / f"{gateway.name}-mosquitto"
        self._conf = folder / f"{gateway.name}-mosquitto.conf"
        self._gateway = gateway

    def gateway_environment(self) -> Mapping[str, str]:
        """What makes the gateway use it."""
        return {
            "SURGE_GATEWAY_GATEWAY_BROKER": "external",
            "SURGE_GATEWAY_MQTT_PORT": str(self._gateway.broker_port),
        }

    async def write_files(self) -> None:
        """Users, rights and configuration, for the devices that are enrolled by now."""
        await run_surge(
            self._conf.parent, "gateway", "mosquitto-files", "--config", str(self._gateway.config),
            "--out", str(self._folder), environment_more=self.gateway_environment(),
        )  # fmt: skip
        text = (self._folder / "mosquitto.conf").read_text()
        # Started by root it would become another user, who can't read the files.
        self._conf.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))

    def command(self) -> Sequence[str]:
        program = shutil.which("mosquitto")
        if program is None:
            raise UserError(
                "there is no Mosquitto", "PATH", "`make test` supplies one; or leave --mosquitto out"
            )
        return [program, "-c", str(self._conf)]
