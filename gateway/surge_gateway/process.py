"""The gateway as a process: enrolled or not, signals, one disk thread, and what its end means to a person.

Place in the flow: between `cli` and `app`. Rule kept: what ends a gateway for good is a UserError.
"""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from surge_gateway.app import Gateway
from surge_gateway.clock import SystemClock
from surge_gateway.errors import ChainError
from surge_gateway.files import RealFiles
from surge_gateway.http_client import make_http
from surge_gateway.identity import Identity, read_identity, read_newest_token, refuse_shared_secrets
from surge_gateway.settings import Settings
from surge_gateway.state_lock import state_lock
from surge_gateway.token_auth import ReplacedToken
from surge_host.errors import UserError


def _first_cause(group: BaseExceptionGroup[Any]) -> BaseException:
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


async def run_gateway(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises UserError for what a person has to put right."""
    files = RealFiles()
    refuse_shared_secrets(settings.gateway.state_dir)
    identity = read_identity(files, settings.gateway.state_dir)
    if identity is None:
        raise UserError(
            "this gateway is not enrolled yet",
            f"[gateway] state_dir = {settings.gateway.state_dir}",
            "run `surge gateway init` with an enrolment token first",
        )
    with state_lock(settings.gateway.state_dir):
        await _run_enrolled(settings, files, identity)


async def _run_enrolled(settings: Settings, files: RealFiles, identity: Identity) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="disk") as disk:
        async with make_http(settings.backend) as http:
            http.auth = ReplacedToken(lambda: read_newest_token(files, settings.gateway.state_dir))
            gateway = Gateway(settings, identity, files, http, disk, SystemClock())
            try:
                await gateway.run(stop)
            except BaseExceptionGroup as group:
                cause = _first_cause(group)
                if isinstance(cause, ChainError):
                    raise UserError(cause.what, str(settings.gateway.state_dir), cause.remedy) from group
                if isinstance(cause, UserError):
                    raise cause from group
                raise
            finally:
                disk.submit(gateway.store.close).result()  # behind whatever is being written
