"""Watches the backend's log: what a receipt stood on must stay part of it (threat 13).

Place in the flow: `uplink` reports every verified receipt's tree; `run` asks for the log's head and for
proofs that each newer tree extends the older one. Does not fetch entries. Rules kept: a head is trusted
only with the pinned key's signature and, from the second on, a consistency proof; the last trusted one is
on disk; a tree that shrank or changed halts the uplink, for receipts of a forked log are worth nothing, and
is said until it is cured.
"""

from pathlib import Path
from typing import NamedTuple

import structlog

from surge_gateway.backend_client import AnswerInvalid, BackendClient, Refusal, Unavailable
from surge_gateway.checked_file import decode_checked, encode_checked
from surge_gateway.clock import Clock
from surge_gateway.commit import OnDisk
from surge_gateway.files import Files, write_atomically
from surge_wire.ed25519 import verifier
from surge_wire.errors import DecodeError
from surge_wire.fields import octets, uint
from surge_wire.limits import HASH_LEN, TREE_SIZE_MAX
from surge_wire.receipt import open_tree_head, verify_consistency_receipt

log = structlog.get_logger()

FILE_NAME = "log_head.state"
TREE_SIZE = 1
ROOT = 2


class Tree(NamedTuple):
    """A tree that the log's key has signed."""

    size: int
    root: bytes


def read_trusted(files: Files, folder: Path) -> Tree | None:
    """The last trusted tree; None at the first start, and after damage (which is said). Raises OSError."""
    try:
        fields = decode_checked(files.read(folder / FILE_NAME))
        return Tree(uint(fields, TREE_SIZE, TREE_SIZE_MAX), octets(fields, ROOT, HASH_LEN))
    except FileNotFoundError:
        return None
    except DecodeError as error:
        log.error("log_head_damaged", path=str(folder / FILE_NAME), reason=error.reason)
        return None


class LogWatch:
    """`alarm` is empty while all is well, else what is wrong with the log."""

    def __init__(
        self,
        client: BackendClient,
        log_public_key: bytes,
        files: Files,
        folder: Path,
        on_disk: OnDisk,
        clock: Clock,
        *,
        check_s: float,
    ) -> None:
        self._client = client
        self._verify = verifier(log_public_key)
        self._files = files
        self._folder = folder
        self._on_disk = on_disk
        self._clock = clock
        self._check_s = check_s
        self._trusted = read_trusted(files, folder)
        self._seen: Tree | None = None  # the largest tree signed since, not proven yet
        self.alarm = ""
        self.last_error = ""  # of our own disk

    @property
    def trusted(self) -> Tree | None:
        return self._trusted

    def observe(self, tree: Tree) -> bool:
        """A verified receipt stands on `tree`; False where that contradicts what the log said before.

        A smaller tree is fine: the same batch sent again gets the same, older receipt.
        """
        for known in (self._trusted, self._seen):
            if known is not None and known.size == tree.size and known.root != tree.root:
                self._raise_alarm("two roots for one tree size", known, tree)
                return False
        if self._seen is None or tree.size > self._seen.size:
            self._seen = tree
        return True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.check()
                self.last_error = ""
            except OSError as error:
                self.last_error = f"log head: {error.strerror}"
                log.error("log_head_not_written", error=error.strerror, remedy="free disk space")
            except (Unavailable, Refusal, AnswerInvalid) as error:
                log.debug("log_not_checked", reason=str(error))
            await self._clock.sleep(self._check_s)

    async def check(self) -> None:
        """Ask for the head, and for proofs of all that was seen. Raises what `BackendClient` raises."""
        seen = self._seen  # before the head is asked for: receipts that come meanwhile may be of a newer tree
        try:
            head = open_tree_head(await self._client.log_head(), self._verify)
        except DecodeError as error:
            raise AnswerInvalid(f"tree head: {error.reason}") from error
        now = Tree(head.tree_size, head.root)
        trusted = self._trusted
        if trusted is not None and now.size < trusted.size:
            self._raise_alarm("the log has shrunk", trusted, now)
            return
        if seen is not None and not await self._extends(seen, now):
            return
        if trusted is not None and not await self._extends(trusted, now):
            return
        if self.alarm:
            log.warning("log_alarm_over", alarm=self.alarm, size=now.size)
            self.alarm = ""
        if now != trusted:
            fields = {TREE_SIZE: now.size, ROOT: now.root}
            await self._on_disk(
                lambda: write_atomically(self._files, self._folder / FILE_NAME, encode_checked(fields))
            )
            self._trusted = now
        if self._seen is seen:
            self._seen = None

    async def _extends(self, old: Tree, new: Tree) -> bool:
        if old == new or old.size == 0:
            return True
        if old.size >= new.size:
            self._raise_alarm("the log has shrunk or changed", old, new)
            return False
        receipt = await self._client.log_consistency(old.size, new.size)
        try:
            sizes = verify_consistency_receipt(receipt, old.root, new.root, self._verify)
        except DecodeError as error:
            self._raise_alarm(f"no valid proof that the log only grew: {error.reason}", old, new)
            return False
        if sizes != (old.size, new.size):
            self._raise_alarm("the proof is about other trees", old, new)
            return False
        return True

    def _raise_alarm(self, what: str, old: Tree, new: Tree) -> None:
        self.alarm = f"{what}: {_short(old)}, then {_short(new)}"
        log.error(
            "log_forked",
            what=what,
            old_size=old.size,
            old_root=old.root.hex(),
            new_size=new.size,
            new_root=new.root.hex(),
            consequence="nothing is sent or deleted",
            remedy="ask the backend's operator; keep this log line as evidence",
        )


def _short(tree: Tree) -> str:
    return f"size {tree.size} root {tree.root.hex()[:16]}"
