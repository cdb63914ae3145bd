"""``surge device``: enrol a device, and run this machine as one.

Place in the flow: provisioning. ``enrol`` makes the device's secret here, has the backend give it an id,
and writes the data directory that the firmware reads; ``run`` starts the real firmware in MicroPython on
that directory. Does not flash boards. Rules kept: the secret is on disk before the backend hears of it, so
a lost answer costs nothing (the same token and secret get the same id); it is never printed and never an
argument; files are for their owner only.
"""

import argparse
import os
import re
import secrets
import subprocess
from pathlib import Path

from surge_cli.errors import UserError
from surge_cli.firmware_build import BOARDS, build_firmware
from surge_cli.micropython import find_micropython
from surge_cli.provisioning import Enrolment, enrol_device

SUMMARY = "enrol a device, or run this machine as one"

RESTART_EXIT_CODE = 75  # what the firmware leaves with when it wants to be started again (boards/linux)
TOKEN_LEN_MAX = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(dest="device_command", metavar="COMMAND", required=True)
    enrol = commands.add_parser("enrol", help="make an identity and have the backend know it")
    enrol.add_argument("--backend", required=True, metavar="URL", help="the backend's address")
    enrol.add_argument("--enrolment-token-file", required=True, type=Path, metavar="FILE")
    enrol.add_argument("--out", required=True, type=Path, metavar="DIR", help="the device's data directory")
    enrol.add_argument("--name", default="", help="what its owner calls it")
    enrol.add_argument("--board", default="linux", choices=BOARDS)
    enrol.add_argument("--broker", default="127.0.0.1:1883", metavar="HOST:PORT")
    enrol.add_argument("--interval", default=10.0, type=float, metavar="SECONDS", help="between two reports")
    run_parser = commands.add_parser("run", help="run the firmware on this machine")
    run_parser.add_argument("directory", type=Path, metavar="DIR", help="what `enrol` wrote")
    run_parser.add_argument("--heap", default="256k", metavar="SIZE", help="the device's heap (default 256k)")


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command."""
    if args.device_command == "enrol":
        return _enrol(args)
    return _run(args.directory, args.heap)


def read_token(path: Path) -> str:
    """The one word in a token file."""
    try:
        text = path.read_text(encoding="ascii")[: TOKEN_LEN_MAX + 1].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the token can't be read", str(path), f"check the file ({error})") from None
    if not re.fullmatch(r"[A-Za-z0-9_.-]{20,512}", text):
        raise UserError("no token in the file", str(path), "it holds one line, as the backend gave it")
    return text


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` as host and port."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError("not an address", text, "write it as HOST:PORT, for example 127.0.0.1:1883")
    return host, int(port)


def _enrol(args: argparse.Namespace) -> int:
    host, port = parse_address(args.broker)
    wanted = Enrolment(
        backend_url=args.backend,
        token=read_token(args.enrolment_token_file),
        name=args.name,
        board=args.board,
        settings={"broker_host": host, "broker_port": port, "report_interval_s": args.interval},
    )
    device_id = enrol_device(wanted, args.out, secrets.token_bytes)
    print(f"{device_id} is enrolled; its data is in {args.out}")
    return 0


def _run(directory: Path, heap: str) -> int:
    if not (directory / "identity.json").is_file():
        raise UserError("no device lives here", str(directory), "make one with `surge device enrol`")
    interpreter = find_micropython()
    firmware = build_firmware(directory.resolve() / "firmware")
    command = [
        *interpreter.argv,
        "-X",
        f"heapsize={heap}",
        str(firmware / "main.py"),
        str(directory.resolve()),
    ]
    environment = {**os.environ, "MICROPYPATH": f".frozen:{firmware}"}
    while True:
        code = subprocess.run(command, env=environment, check=False).returncode
        if code != RESTART_EXIT_CODE:
            return code
