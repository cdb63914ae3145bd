"""Which reports of a device are on disk, or on their way there: intervals of seq per boot.

Place in the flow: pure; `ingress` asks for every report, `commit` marks what became durable, `acks` reads
the intervals. Rules kept: a duplicate is never stored twice while we remember the first; a known seq with
other bytes is not called a duplicate, for it proves a second holder of the device's key and the backend
must see it (threat 1); every set is bounded, and what is forgotten is forwarded again, which is harmless
since the backend counts each report once; where the disk lost something, all of it is forgotten.
"""

from array import array
from bisect import bisect_right

RANGES_MAX = 64  # intervals per boot; at the limit the lowest is forgotten
BOOTS_MAX = 4  # boots per device; at the limit the one we have known longest is forgotten
FINGERPRINTS_MAX = 64  # per boot; for older seqs, other bytes pass as a duplicate
_HASH_MASK = (1 << 64) - 1
# Slot i of a ring belongs to the seqs that leave i over; before the first of them it holds one that doesn't.
_NO_SEQS = array("I", (index ^ 1 for index in range(FINGERPRINTS_MAX)))
_NO_HASHES = array("Q", bytes(8 * FINGERPRINTS_MAX))

NEW = 0
PENDING = 1  # not yet durable: it is acknowledged when it is
DUPLICATE = 2  # durable: acknowledge again
CONFLICT = 3  # same name, other bytes


class SeqSet:
    """Inclusive intervals, rising, never touching."""

    __slots__ = ("firsts", "lasts")

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.lasts: list[int] = []

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self.firsts, seq) - 1
        return at >= 0 and seq <= self.lasts[at]

    def add(self, seq: int) -> None:
        """Remember `seq`."""
        firsts, lasts = self.firsts, self.lasts
        if lasts and seq == lasts[-1] + 1:  # the usual case
            lasts[-1] = seq
            return
        at = bisect_right(firsts, seq)  # the interval before is at - 1
        if at and seq <= lasts[at - 1]:
            return
        joins_before = at > 0 and lasts[at - 1] + 1 == seq
        joins_after = at < len(firsts) and firsts[at] == seq + 1
        if joins_before and joins_after:
            lasts[at - 1] = lasts[at]
            del firsts[at], lasts[at]
        elif joins_before:
            lasts[at - 1] = seq
        elif joins_after:
            firsts[at] = seq
        else:
            firsts.insert(at, seq)
            lasts.insert(at, seq)
            if len(firsts) > RANGES_MAX:
                del firsts[0], lasts[0]

    def ranges(self) -> list[tuple[int, int]]:
        """All intervals, rising."""
        return list(zip(self.firsts, self.lasts, strict=True))


class BootSeqs:
    """One boot of one device.

    Fingerprints stand in two arrays, so that a boot takes 1.4 KiB; a dict of them made it 5 to 7 KiB, which
    with ten thousand devices was more than everything else in the gateway.
    """

    __slots__ = ("_hashes", "_seqs", "boot", "durable", "pending")

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.durable = SeqSet()
        self.pending: set[int] = set()
        self._seqs = _NO_SEQS[:]
        self._hashes = _NO_HASHES[:]

    def judge(self, seq: int, fingerprint: int) -> int:
        """NEW, PENDING, DUPLICATE or CONFLICT."""
        durable = seq in self.durable
        if not durable and seq not in self.pending:
            return NEW
        slot = seq % FINGERPRINTS_MAX
        if self._seqs[slot] == seq and self._hashes[slot] != fingerprint & _HASH_MASK:
            return CONFLICT
        return DUPLICATE if durable else PENDING

    def note_pending(self, seq: int, fingerprint: int) -> None:
        """It is on its way to the disk."""
        self.pending.add(seq)
        self._note_fingerprint(seq, fingerprint)

    def note_durable(self, seq: int) -> None:
        """It is on disk."""
        self.pending.discard(seq)
        self.durable.add(seq)

    def note_recovered(self, seq: int, fingerprint: int) -> None:
        """It was found on disk at the start."""
        self.durable.add(seq)
        self._note_fingerprint(seq, fingerprint)

    def forget_durable(self) -> None:
        """Some of what was on disk is not there any more: take it again, and don't acknowledge it before."""
        self.durable = SeqSet()

    def _note_fingerprint(self, seq: int, fingerprint: int) -> None:
        slot = seq % FINGERPRINTS_MAX
        if self._seqs[slot] != seq:  # the first bytes seen under a name are the ones to compare with
            self._seqs[slot] = seq
            self._hashes[slot] = fingerprint & _HASH_MASK


class DeviceSeqs:
    """All remembered boots of one device."""

    __slots__ = ("_boots",)

    def __init__(self) -> None:
        self._boots: dict[int, BootSeqs] = {}

    def boot(self, number: int) -> BootSeqs:
        """The boot's record, made if need be."""
        found = self._boots.get(number)
        if found is None:
            found = self._boots[number] = BootSeqs(number)
            if len(self._boots) > BOOTS_MAX:
                del self._boots[next(iter(self._boots))]
        return found

    def forget_durable(self) -> None:
        """Of every boot."""
        for boot in self._boots.values():
            boot.forget_durable()
