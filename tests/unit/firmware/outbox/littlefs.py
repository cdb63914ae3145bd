"""Runs on MicroPython: the outbox on a real littlefs in RAM, its power cut at block operations.

    wear REPORTS ERASES PROGRAMMED_BYTES     the flash's work for reports sealed at once and acked
    cuts N                                   power cuts, each followed by a mount and a check

A file that was open at a cut is finalised with the heap locked, where a block device written in Python can't
run: MicroPython prints a MemoryError then, which is no fault of what is tested.
"""

import random

import vfs

from surge_device.outbox import Outbox
from surge_device.outbox_limits import Limits
from surge_device.storage import Storage

BLOCK = 4096
BLOCKS = 48


class PowerCut(BaseException):
    pass


class Flash:
    """NOR flash: bits are programmed from 1 to 0, blocks erased to 1."""

    def __init__(self):
        self.data = bytearray(b"\xff" * (BLOCK * BLOCKS))
        self.erases = self.programmed = 0
        self.left = -1

    def step(self):
        if self.left == 0:
            raise PowerCut
        self.left -= 1

    def readblocks(self, block, buffer, offset=0):
        start = block * BLOCK + offset
        buffer[:] = self.data[start : start + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        start = block * BLOCK + offset
        for place in range(len(buffer)):
            if not place % 64:
                self.step()
            self.data[start + place] &= buffer[place]
        self.programmed += len(buffer)

    def ioctl(self, operation, argument):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK
        if operation == 6:
            self.step()
            start = argument * BLOCK
            self.data[start : start + BLOCK] = b"\xff" * BLOCK
            self.erases += 1
        return 0


class FlashStorage(Storage):
    def sync_names(self):
        """littlefs commits names at once."""


def mount(flash):
    vfs.mount(vfs.VfsLfs2(flash, readsize=32, progsize=256, lookahead=32), "/flash")
    outbox = Outbox(FlashStorage("/flash/outbox"), Limits(16 * 8400, 8400, 64, 8))
    outbox.load()
    return outbox


def measure_wear():
    flash = Flash()
    vfs.VfsLfs2.mkfs(flash, readsize=32, progsize=256, lookahead=32)
    outbox = mount(flash)
    flash.erases = flash.programmed = 0
    for seq in range(500):
        outbox.add_sealed(1, seq, b"e" * 300)
        if seq % 4 == 3:
            outbox.ack(1, [[0, seq]])
    print("wear", 500, flash.erases, flash.programmed)
    vfs.umount("/flash")


def cut_again_and_again():
    random.seed(11)
    flash = Flash()
    vfs.VfsLfs2.mkfs(flash, readsize=32, progsize=256, lookahead=32)
    stored, acked, sent = set(), set(), {}
    reading = cuts = 0
    for boot in range(1, 40):
        flash.left = -1
        outbox = mount(flash)
        assert outbox.damaged == 0
        held = [int(envelope[:6]) for _, _, envelope in outbox.unacked()]
        for place in range(outbox._pending.count):
            number, segment, offset, _ = outbox._pending.row(place)
            held.append(int(outbox._log.read(segment, offset, number)[:6]))
        assert len(held) == len(set(held)), "a reading is there twice"
        assert len(stored - acked - set(held)) <= outbox.dropped, "lost without being counted"
        flash.left = random.getrandbits(10)
        seq = 0
        try:
            while True:
                reading += 1
                outbox.put_pending(b"%06d" % reading + bytes(random.getrandbits(9)))
                stored.add(reading)
                if random.getrandbits(1) and outbox.window_open:
                    number, body = outbox.next_pending()
                    seq += 1
                    outbox.add_sealed(boot, seq - 1, body, number)
                if not random.getrandbits(2):
                    for sent_boot, sent_seq, envelope in outbox.unacked():
                        found = int(envelope[:6])
                        assert sent.setdefault(found, (sent_boot, sent_seq)) == (sent_boot, sent_seq)
                    for sent_boot, sent_seq, envelope in outbox.unacked():
                        acked.add(int(envelope[:6]))
                        outbox.ack(sent_boot, [[sent_seq, sent_seq]])
        except PowerCut:
            cuts += 1
        flash.left = 0
        for give_up in (outbox._log.abandon, lambda: vfs.umount("/flash")):
            try:
                give_up()
            except PowerCut:
                pass
    assert len(acked) > 50
    print("cuts", cuts)


measure_wear()
cut_again_and_again()
