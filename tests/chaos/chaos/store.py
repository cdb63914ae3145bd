"""An InfluxDB 1.x beside the backend, for runs whose telemetry store is a process of its own.

Place in the flow: ``site`` starts it where the plan says so; a part like the others. It outlives the backend
at the end of a run, since ``books`` reads it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from surge_cli.demo.parts import Part, answers, free_port
from surge_host.errors import UserError

_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[monitor]
store-enabled = false
"""


class StorePart(Part):
    """With its data in ``folder/influx``."""

    def __init__(self, folder: Path) -> None:
        super().__init__("the telemetry store", folder / "influx.log")
        self._config = folder / "influx.conf"
        self._port = free_port()
        self._folder = folder / "influx"

    def backend_sections(self) -> str:
        """What makes the backend use it."""
        return (
            f'[telemetry]\nkind = "influx1"\nurl = "http://127.0.0.1:{self._port}"\ndatabase = "surge"\n'
            "retry_max_s = 2.0\n"
        )

    def command(self) -> Sequence[str]:
        program = shutil.which("influxd")
        if program is None:
            raise UserError("there is no InfluxDB", "PATH", "`make test` supplies one; or leave --influx out")
        return [program, "run", "-config", str(self._config)]

    async def start(self) -> None:
        self._config.write_text(_CONFIG.format(folder=self._folder, port=self._port))
        await super().start()

    async def ready(self) -> bool:
        """Whether it answers."""
        return await answers(f"http://127.0.0.1:{self._port}/ping")
