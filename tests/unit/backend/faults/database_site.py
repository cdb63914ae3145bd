"""A backend whose database lies on a simulated disk, a plan of what gateways send it, and what must hold.

A plan is made once for each seed and then run again and again, with one fault after the other. Whatever the
fault, the batch that got no answer is sent again, as gateways do, and in the end every row of every table is
the one of the run without faults: nothing lost, nothing counted or paid twice.
"""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from apsw_dbapi import ApswModule
from power_disk import PowerDisk
from power_vfs import PowerVfs

from surge_backend.errors import StoreBusy, StoreFull
from surge_backend.invariants import check_all
from surge_wire.report import decode_report, open_report

DATABASE = "surge.db"
PLAN_LEN = 14
SUBMIT = "submit"  # a new batch
REPEAT = "repeat"  # one that has its answer already
LOOK = "look"  # a reader that stays open until the step after the next, so that no checkpoint is whole
CLOSE = "close"  # all connections: the last one brings the WAL over and removes it


@dataclass(frozen=True)
class Step:
    kind: str
    gateway_id: str = ""
    envelope: bytes = b""
    now_ms: int = 0
    names: tuple[tuple[str, int, int], ...] = ()


@dataclass
class Disks:
    """The simulated disks of one test; `module` is what SQLAlchemy gets instead of sqlite3."""

    folder: Path
    vfs: dict[Path, PowerVfs] = field(default_factory=dict)
    mounted: int = 0

    def __post_init__(self) -> None:
        self.module = ApswModule(lambda folder: self.vfs[folder].name)

    def mount(self, disk: PowerDisk, files: dict[str, bytes]) -> Path:
        """The folder in which `disk` can be used from now on."""
        self.mounted += 1
        folder = self.folder / f"disk-{self.mounted}"
        self.vfs[folder] = PowerVfs(disk, folder, files)
        return folder

    def unmount(self, folder: Path) -> None:
        """No connection is open any more."""
        self.vfs.pop(folder).unregister()
        shutil.rmtree(folder)


def make_plan(world: Any, gateways: list[Any], boards: list[Any], source: random.Random) -> list[Step]:
    """What happens, in order; made by letting it happen in `world`."""
    recent: list[bytes] = []
    plan: list[Step] = []
    while len(plan) < PLAN_LEN:
        choice = source.random()
        if choice < 0.12 and any(step.kind == SUBMIT for step in plan):
            earlier = source.choice([step for step in plan if step.kind == SUBMIT])
            plan.append(Step(REPEAT, earlier.gateway_id, earlier.envelope, world.now_ms))
        elif choice < 0.24:
            plan.append(Step(LOOK))
        elif choice < 0.32:
            plan.append(Step(CLOSE))
        else:
            world.now_ms += source.randrange(1, 5_000)
            reports = [source.choice(boards).next(source.randrange(1, 9)) for _ in range(source.randrange(4))]
            recent = (recent + reports)[-8:]
            sent = list(reports)
            if source.random() < 0.3 and recent:
                sent.append(source.choice(recent))  # again, perhaps through the other gateway
            if source.random() < 0.2:
                sent.append(source.randbytes(30))
            gateway = source.choice(gateways)
            envelope = gateway.seal(sent, received_ms=world.now_ms)
            plan.append(Step(SUBMIT, gateway.id, envelope, world.now_ms, _names(reports)))
            world.submit(gateway, envelope)
            gateway.settled()
    return plan


def _names(reports: list[bytes]) -> tuple[tuple[str, int, int], ...]:
    names = []
    for sealed in reports:
        device_id, opened = open_report(sealed)
        report = decode_report(opened.payload)
        names.append((device_id, report.boot, report.seq))
    return tuple(names)


class Broken(Exception):
    """What must hold whatever happens doesn't."""


class DatabaseSite:
    """A backend on `disk`; `start` opens what is there, as a process does when it starts."""

    def __init__(self, disks: Disks, open_world: Callable[[str], Any], plan: list[Step]) -> None:
        self._disks = disks
        self._open_world = open_world
        self._plan = plan
        self._folder: Path | None = None
        self._readers = contextlib.ExitStack()
        self._answers: dict[bytes, bytes] = {}  # of every envelope that was answered
        self._names: set[tuple[str, int, int]] = set()
        self.disk = PowerDisk(0)
        self.world: Any = None
        self.refused = 0  # submissions that got an error a gateway understands, and tries again

    def mount(self, disk: PowerDisk, files: dict[str, bytes]) -> None:
        self.disk = disk
        self._folder = self._disks.mount(disk, files)

    def start(self) -> None:
        assert self._folder is not None
        self.world = self._open_world(str(self._folder / DATABASE))

    def run(self) -> None:
        """The whole plan. What fails a submission that the disk survives is tried again until it passes."""
        for step in self._plan:
            while not self._done(step):
                self.refused += 1
                if self.disk.off:
                    return

    def _done(self, step: Step) -> bool:
        if step.envelope in self._answers and step.kind == SUBMIT:
            return True  # before the power went
        try:
            self._do(step)
        except (StoreFull, StoreBusy):
            return False
        return True

    def _do(self, step: Step) -> None:
        if step.kind == LOOK:
            self._readers.close()
            connection = self._readers.enter_context(self.world.database.read())
            connection.exec_driver_sql("SELECT count(*) FROM batches").scalar_one()
        elif step.kind == CLOSE:
            self._readers.close()
            self.world.database.engine.dispose()
        else:
            result = self.world.ingest.submit(step.gateway_id, step.envelope, step.now_ms)
            assert self._answers.setdefault(step.envelope, result.answer) == result.answer
            self._names.update(step.names)

    def verify(self) -> None:
        """Every invariant; every answer that was given is given again."""
        with self.world.database.read() as connection:
            found = check_all(connection, self.world.log.verify, acknowledged=self._names)
        if any(found.values()):
            raise Broken(str(found))
        for step in self._plan:
            if step.kind == SUBMIT and step.envelope in self._answers:
                again = self.world.ingest.submit(step.gateway_id, step.envelope, step.now_ms)
                if again.is_new or again.answer != self._answers[step.envelope]:
                    raise Broken("a batch that was answered is gone, or has another answer now")

    def power_cut(self) -> None:
        """The machine goes off; what the disk kept is there for the next `start`."""
        self.disk.off = True
        self._end_process()
        survivor, files = self.disk.restart()
        assert self._folder is not None
        self._disks.unmount(self._folder)
        self.mount(survivor, files)

    def process_died(self) -> None:
        """The process is killed; the machine runs on."""
        self.disk.off = True
        self._end_process()
        self.disk.process_died()

    def _end_process(self) -> None:
        self._readers.close()
        if self.world is not None:
            self.world.database.close()
            self.world = None
        assert self._folder is not None
        self._disks.module.disconnect(self._folder)

    def close(self) -> None:
        """The end of a test: leaves the files alone."""
        self.disk.off = True
        self._end_process()
        assert self._folder is not None
        self._disks.unmount(self._folder)


@contextlib.contextmanager
def closing(site: DatabaseSite) -> Iterator[DatabaseSite]:
    """The site, closed in the end whatever happens."""
    try:
        yield site
    finally:
        site.close()


@dataclass(frozen=True)
class Prepared:
    """A plan; the disk before it, with gateways and devices enrolled; what a run without faults did and
    left."""

    disks: Disks
    open_world: Callable[[str], Any]
    disk: PowerDisk
    plan: list[Step]
    rows: dict[str, list[Any]]
    history: list[str]
    reads: int

    def site(self, seed: int) -> DatabaseSite:
        """A site before the plan, not started yet."""
        site = DatabaseSite(self.disks, self.open_world, self.plan)
        site.mount(*self.disk.copy(seed))
        return site


def prepare(disks: Disks, open_world: Callable[[str], Any], seed: int) -> Prepared:
    """Enrol, make the plan, and run it once without faults."""
    enrolling = DatabaseSite(disks, open_world, [])
    enrolling.mount(PowerDisk(seed), {})
    with closing(enrolling) as site:
        site.start()
        gateways, boards = [site.world.gateway() for _ in range(2)], [site.world.device() for _ in range(3)]
        disk, _files = site.disk.copy(seed)
        plan = make_plan(site.world, gateways, boards, random.Random(seed))
    prepared = Prepared(disks, open_world, disk, plan, {}, [], 0)
    with closing(prepared.site(seed)) as site:
        site.start()
        site.run()
        site.verify()
        return replace(prepared, rows=site.world.snapshot(), history=site.disk.history, reads=site.disk.reads)
