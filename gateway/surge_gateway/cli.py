"""`surge gateway`: runs a gateway, enrols one, or writes Mosquitto's files.

Place in the flow: between the person and `app`. Rule kept: what a person can put right is a UserError that
says what, where and how.
"""

import argparse
import asyncio
import os
import secrets
import socket
from pathlib import Path

from surge_gateway.backend_client import BackendClient
from surge_gateway.clock import SystemClock
from surge_gateway.errors import IdentityError
from surge_gateway.files import RealFiles
from surge_gateway.http_client import make_http
from surge_gateway.init_command import enrol, write_minimal_settings
from surge_gateway.logs import set_up_logs
from surge_gateway.mosquitto_command import write_files
from surge_gateway.process import run_gateway
from surge_gateway.settings import ENV_PREFIX, Settings
from surge_host.errors import UserError
from surge_host.settings_loader import load_settings
from surge_host.settings_values import Secret, read_secret

SUMMARY = (
    "Run a gateway: take reports from devices over MQTT, keep them safe, sign them in batches, forward them. "
    "`init` makes its key and enrols it; `mosquitto-files` writes what a Mosquitto broker needs."
)
CONFIG_DEFAULT = Path("gateway.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config` for all three, and the two sub-commands."""
    parser.add_argument(
        "--config", type=Path, default=CONFIG_DEFAULT, metavar="FILE", help="settings (default: %(default)s)"
    )
    commands = parser.add_subparsers(dest="gateway_command", metavar="COMMAND")
    init = commands.add_parser("init", help="make the gateway's key and enrol it")
    init.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE")
    init.add_argument("--backend", metavar="URL", help="the backend; default: [backend] url")
    init.add_argument("--enrolment-token-file", type=Path, required=True, metavar="FILE")
    init.add_argument("--name", default=socket.gethostname(), help="shown to people (default: %(default)s)")
    files = commands.add_parser("mosquitto-files", help="write Mosquitto's password and ACL files")
    files.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE")
    files.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")


def run(args: argparse.Namespace) -> int:
    """The exit code. Raises UserError."""
    try:
        if args.gateway_command == "init":
            return _init(args)
        settings = load_settings(Settings, args.config, env_prefix=ENV_PREFIX, environ=os.environ)
        set_up_logs(settings.gateway.log_format, settings.gateway.log_level)
        if args.gateway_command == "mosquitto-files":
            print(asyncio.run(write_files(settings, RealFiles(), args.out)))  # noqa: T201
            return 0
        asyncio.run(run_gateway(settings))
        return 0
    except IdentityError as error:
        raise UserError(error.what, error.where, error.remedy) from error


def _init(args: argparse.Namespace) -> int:
    token = read_secret(args.enrolment_token_file, "--enrolment-token-file")
    if args.backend is not None and not args.config.exists():
        write_minimal_settings(args.config, args.backend)
    settings = load_settings(Settings, args.config, env_prefix=ENV_PREFIX, environ=os.environ)
    if args.backend is not None and args.backend.rstrip("/") != settings.backend.url.rstrip("/"):
        raise UserError(
            f"the settings name another backend: {settings.backend.url}",
            f"--backend {args.backend}",
            f"put the right one into {args.config}, [backend] url, and leave --backend out",
        )
    set_up_logs(settings.gateway.log_format, settings.gateway.log_level)
    gateway_id = asyncio.run(_enrol(settings, token, args.name))
    print(f"enrolled as {gateway_id}; key and token are in {settings.gateway.state_dir}")  # noqa: T201
    return 0


async def _enrol(settings: Settings, token: Secret, name: str) -> str:
    async with make_http(settings.backend) as http:
        client = BackendClient(http, settings.backend.url, None, SystemClock())
        try:
            identity = await enrol(
                client,
                RealFiles(),
                settings.gateway.state_dir,
                secrets.token_bytes,
                token.reveal(),
                name,
                settings.backend.url,
            )
        except OSError as error:
            raise UserError(
                f"the gateway's files can't be written: {error.strerror}",
                f"[gateway] state_dir = {settings.gateway.state_dir}",
                "check the folder's owner and free space",
            ) from error
    return identity.gateway_id
