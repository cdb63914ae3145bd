"""``surge device``: enrol a device, and run this machine as one.

Place in the flow: provisioning. ``enrol`` makes the device's secret here, has the backend give it an id,
and writes the data directory that the firmware reads; ``run`` starts the real firmware in MicroPython on
that directory. Does not flash boards. Rules kept: the secret and the token are never printed and never an
argument; ``run`` starts the firmware again when it asks for that, as a board's reset would, and lets it end
in order when it is interrupted or terminated itself; one firmware at a time runs on a directory, whatever
became of what started it.
"""

import argparse
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from surge_cli.firmware_build import BOARDS, build_firmware
from surge_cli.micropython import find_micropython
from surge_cli.provisioning import IDENTITY_FILE, Enrolment, enrol_device
from surge_host.errors import UserError
from surge_host.private_files import take_lock

SUMMARY = "enrol a device, or run this machine as one"

RESTART_EXIT_CODE = 75  # what the firmware leaves with when it wants to be started again (boards/linux)
TOKEN_LEN_MAX = 512
INTERVAL_S = (0.05, 86_400)  # what the firmware's settings allow
HEAP = re.compile(r"[1-9][0-9]{0,9}[kKmM]?")
LOCK_FILE = "run.lock"
INTERRUPTED_EXIT_CODE = 130  # of the firmware, when it ended in order
SIGNAL_EXIT_CODE = 128  # and the signal's number, as shells have it


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
    enrol.add_argument(
        "--plain-http", action="store_true", help="allow http:// to another machine, on a trusted network"
    )
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
    if not INTERVAL_S[0] <= args.interval <= INTERVAL_S[1]:
        raise UserError(
            "not an interval",
            f"--interval {args.interval}",
            f"choose {INTERVAL_S[0]} to {INTERVAL_S[1]} seconds",
        )
    wanted = Enrolment(
        backend_url=args.backend,
        token=read_token(args.enrolment_token_file),
        name=args.name,
        board=args.board,
        settings={"broker_host": host, "broker_port": port, "report_interval_s": args.interval},
        plain_http=args.plain_http,
    )
    device_id = enrol_device(wanted, args.out, secrets.token_bytes)
    print(f"{device_id} is enrolled; its data is in {args.out}")
    return 0


def _run(directory: Path, heap: str) -> int:
    if not HEAP.fullmatch(heap):
        raise UserError("not a size", f"--heap {heap}", "write it as 256k or 1m, for example")
    if not (directory / IDENTITY_FILE).is_file():
        raise UserError("no device lives here", str(directory), "make one with `surge device enrol`")
    interpreter = find_micropython()
    with _alone(directory) as lock:
        firmware = _firmware_in(directory.resolve())
        command = [
            *interpreter.argv,
            "-X",
            f"heapsize={heap}",
            str(firmware / "main.py"),
            str(directory.resolve()),
        ]
        environment = {**os.environ, "MICROPYPATH": f".frozen:{firmware}"}
        return _supervise(command, environment, lock)


@contextmanager
def _alone(directory: Path) -> Iterator[int]:
    """A lock on the directory, as a descriptor that the firmware inherits and so holds while it lives."""
    path = directory / LOCK_FILE
    try:
        descriptor = take_lock(path)
    except BlockingIOError:
        raise UserError(
            "this device runs already", str(directory), "stop that one first: a device is one machine"
        ) from None
    except OSError as error:
        raise _unwritable(error, path) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _firmware_in(directory: Path) -> Path:
    try:
        return build_firmware(directory / "firmware")
    except OSError as error:
        raise _unwritable(error, directory) from error


def _unwritable(error: OSError, path: Path) -> UserError:
    return UserError(
        f"the device's directory can't be written: {error.strerror}",
        str(error.filename or path),
        "check that it is a directory of yours on a disk with room",
    )


def _supervise(command: list[str], environment: dict[str, str], lock: int) -> int:
    """Run the firmware, again when it asks for it. SIGTERM ends it in order, like an interrupt: 0 then."""
    running: list[subprocess.Popen[bytes]] = []
    terminated: list[int] = []

    def terminate(number: int, _frame: object) -> None:
        terminated.append(number)
        if len(terminated) == 1:  # a second one would break off what the first began
            for process in running:
                process.send_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        while True:
            running[:] = [subprocess.Popen(command, env=environment, pass_fds=(lock,))]
            if terminated:  # between two runs
                running[0].send_signal(signal.SIGINT)
            code = _wait(running[0])
            if terminated:
                return 0 if code in (0, RESTART_EXIT_CODE, INTERRUPTED_EXIT_CODE) else code
            if code != RESTART_EXIT_CODE:
                return code
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; an interrupt from the keyboard went to it as well, and it ends in order."""
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        return code if code >= 0 else SIGNAL_EXIT_CODE - code
