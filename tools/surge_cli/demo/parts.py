"""The parts of a network on one machine: backend, gateway, board. Each can be started, paused, killed and
started again in the same place, as often as wanted.

Place in the flow: ``demo.network`` builds the demo of them, tests build networks that they break. Each part
is a process of its own, started by the same command as a person would use. Does not decide when a part
starts or ends. Rule kept: a part that ends although it is wanted is an error that ``check`` raises, unless it
left with the code that asks for a new start.
"""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from surge_cli.demo.device_status import DeviceStatus
from surge_cli.demo.owner import OwnerClient
from surge_cli.demo.processes import Child
from surge_cli.device import RESTART_EXIT_CODE
from surge_cli.micropython import Interpreter
from surge_cli.provisioning import Enrolment, enrol_device, write_private
from surge_host.errors import UserError

HTTP_TIMEOUT_S = 60
HEAP = "256k"  # a fair double of the 128 KiB that a 32-bit board has: pointers are twice as long here


def _ignore(_line: str) -> None:
    pass


class Part(ABC):
    """A program that is started in one place again and again."""

    def __init__(
        self,
        name: str,
        log_path: Path,
        *,
        on_line: Callable[[str], None] = _ignore,
        more_environment: Mapping[str, str] | None = None,
        restart_code: int | None = None,
    ) -> None:
        self.name = name
        self.child = Child(name, log_path, on_line)
        self.wanted = False
        self._more_environment = dict(more_environment or {})
        self._restart_code = restart_code
        self._keeper: asyncio.Task[None] | None = None

    def add_environment(self, more: Mapping[str, str]) -> None:
        """Variables for its next start."""
        self._more_environment.update(more)

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Its command line."""

    async def start(self) -> None:
        """Start it; returns when the process is there, which says nothing about what it does."""
        self.wanted = True
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def _spawn(self) -> None:
        await self.child.start(self.command(), {**environment(), **self._more_environment})

    async def _keep(self) -> None:
        """Until it isn't wanted; started again when it asks for that, as a board's reset would."""
        while True:
            code = await self.child.wait()
            if not self.wanted:
                return
            if self._restart_code is None or code != self._restart_code:
                raise self.child.failed()
            await self._spawn()

    def check(self) -> None:
        """Raise for a part that ended although nobody asked it to."""
        if self._keeper is not None and self._keeper.done():
            self._keeper.result()

    def pause(self) -> None:
        """Stop it in its tracks, as a machine that swaps or an overloaded one does."""
        self.child.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.child.send(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.wanted = False
        self.child.send(signal.SIGKILL)
        await self._gone()

    async def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; where it doesn't, make it."""
        self.wanted = False
        await self.child.stop(with_signal)
        await self._gone()

    async def _gone(self) -> None:
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            await asyncio.wait((keeper,))
            keeper.exception()  # that it had ended before is for `check` to say, in time


class BackendPart(Part):
    """``surge backend`` with its data in ``folder/backend``. ``sections`` are lines added to its settings."""

    def __init__(
        self,
        folder: Path,
        *,
        sections: str = "",
        arguments: Sequence[str] = (),
        more_environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("the backend", folder / "backend.log", more_environment=more_environment)
        self.config = folder / "backend.toml"
        self.data_dir = folder / "backend"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._sections = sections
        self._arguments = tuple(arguments)

    async def initialise(self) -> None:
        """Write its settings and make its keys and database."""
        self.config.write_text(
            f'[server]\nport = {self.port}\n[storage]\ndata_dir = "backend"\n{self._sections}'
        )
        await run_surge(self.config.parent, "backend", "init", "--config", str(self.config))

    def command(self) -> Sequence[str]:
        return surge_command("backend", "--config", str(self.config), *self._arguments)

    async def ready(self) -> bool:
        """Whether its API answers."""
        return await answers(self.url + "/healthz")

    async def make_owner(self, name: str) -> tuple[str, OwnerClient]:
        """A new owner's id, and a client with its token."""
        admin = OwnerClient(self.url, (self.data_dir / "admin.token").read_text().strip())
        try:
            made = await admin.post("/v1/owners", {"name": name})
        finally:
            await admin.close()
        return str(made["owner_id"]), OwnerClient(self.url, made["token"])


class GatewayPart(Part):
    """``surge gateway`` with its state in ``folder/NAME``; ``backend_url`` is where its batches go.

    ``broker_lines`` are added to ``[broker]``, ``sections`` to the end of its settings."""

    def __init__(
        self,
        folder: Path,
        backend_url: str,
        *,
        name: str = "gateway",
        broker_lines: str = "",
        sections: str = "",
        more_environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"the {name}", folder / f"{name}.log", more_environment=more_environment)
        self.config = folder / f"{name}.toml"
        self.state_dir = folder / name
        self.broker_dir = folder / f"{name}-broker"
        self.broker_port = free_port()
        self.config.write_text(
            f'[gateway]\nstate_dir = "{name}"\n[backend]\nurl = "{backend_url}"\n'
            f'[broker]\nport = {self.broker_port}\nfolder = "{name}-broker"\n'
            f"{broker_lines}[registry]\npoll_s = 0.5\n[status]\nenabled = true\n{sections}"
        )
        self._backend_url = backend_url

    async def enrol(self, owner: OwnerClient, called: str) -> None:
        """Make its key and have the backend know it."""
        token_file = self.config.with_suffix(".enrolment")
        write_private(token_file, await enrolment_token(owner, "gateway", called))
        await run_surge(
            self.config.parent, "gateway", "init", "--config", str(self.config),
            "--backend", self._backend_url, "--enrolment-token-file", str(token_file),
        )  # fmt: skip

    def command(self) -> Sequence[str]:
        return surge_command("gateway", "--config", str(self.config))

    async def start(self) -> None:
        """As any part; the address of an earlier run's status page is forgotten."""
        (self.state_dir / "status.url").unlink(missing_ok=True)
        await super().start()

    async def ready(self) -> bool:
        """Whether it runs."""
        url = self._status_url()
        return url is not None and await answers(url + "/healthz")

    async def status(self) -> dict[str, Any]:
        """What its /status says. Raises httpx.HTTPError where it doesn't answer."""
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_S) as client:
            answer = await client.get(f"{self._status_url()}/status")
            return dict(answer.json())

    def _status_url(self) -> str | None:
        try:
            return (self.state_dir / "status.url").read_text().strip().rstrip("/") or None
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Firmware:
    """What runs a board: an interpreter and the compiled firmware."""

    interpreter: Interpreter
    folder: Path


class BoardPart(Part):
    """The real firmware in MicroPython on the data directory ``folder``; ``status`` is what it says of
    itself."""

    def __init__(self, name: str, folder: Path, firmware: Firmware) -> None:
        self.status = DeviceStatus()
        super().__init__(
            f"device {name}",
            folder / "console.log",
            on_line=self.status.take,
            more_environment={"MICROPYPATH": f".frozen:{firmware.folder}"},
            restart_code=RESTART_EXIT_CODE,
        )
        self.called = name
        self.folder = folder
        self.device_id = ""
        self._firmware = firmware

    async def enrol(self, owner: OwnerClient, backend_url: str, settings: Mapping[str, Any]) -> None:
        """Make its secret and have the backend know it. ``settings`` are the firmware's."""
        token = await enrolment_token(owner, "device", self.called)
        wanted = Enrolment(
            backend_url=backend_url, token=token, name=self.called, board="linux", settings=settings
        )
        self.device_id = await asyncio.to_thread(enrol_device, wanted, self.folder, secrets.token_bytes)

    def command(self) -> Sequence[str]:
        return [
            *self._firmware.interpreter.argv,
            "-X",
            f"heapsize={HEAP}",
            str(self._firmware.folder / "main.py"),
            str(self.folder),
        ]


async def enrolment_token(owner: OwnerClient, kind: str, name: str) -> str:
    """A token that enrols one device or gateway."""
    made = await owner.post("/v1/enrolments", {"kind": kind, "name": name})
    return str(made["enrolment_token"])


async def run_surge(folder: Path, *arguments: str, environment_more: Mapping[str, str] | None = None) -> None:
    """Run a ``surge`` command to its end; what it says goes to ``setup.log``. Raises UserError."""
    child = Child(f"surge {' '.join(arguments[:2])}", folder / "setup.log", _ignore)
    await child.start(surge_command(*arguments), {**environment(), **(environment_more or {})})
    if await child.wait() != 0:
        raise child.failed()


async def answers(url: str) -> bool:
    """Whether ``url`` answers with success by now."""
    try:
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_S) as client:
            return (await client.get(url)).is_success
    except httpx.HTTPError:
        return False


async def wait_until(
    what: str,
    ready: Callable[[], Any],
    *,
    where: Path,
    timeout_s: float,
    poll_s: float,
    part: Part | None = None,
) -> None:
    """Ask ``ready`` until it says yes. Raises UserError when time is up, or ``part`` ended."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await ready():
                if part is not None:
                    part.check()
                await asyncio.sleep(poll_s)
    except TimeoutError:
        raise UserError(
            f"gave up waiting until {what}", str(where), "read the logs there (--keep DIR keeps them)"
        ) from None


def free_port() -> int:
    """A TCP port of this machine that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def surge_command(*arguments: str) -> list[str]:
    """The command line of ``surge`` in this interpreter."""
    return [sys.executable, "-m", "surge_cli", *arguments]


def environment() -> dict[str, str]:
    """This process's environment, with unbuffered output from Python."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def load_identity(folder: Path) -> dict[str, str]:
    """What provisioning wrote for a device."""
    return dict(json.loads((folder / "identity.json").read_text()))
