"""The start of a boot: its number, on flash before anything can use it, and where the boot before ended.

Between identity and outbox, which each know one half, and the sealer. Rules (spec/report.md, threat 5): no
number that any record on the device shows is given out again; the end of the boot before is stated only when
the outbox has lost nothing.
"""


def begin_boot(identity, outbox):
    """``(boot, previous_end)``; the latter is None where it isn't known. Raises BootCounterLost."""
    last = outbox.last_sealed
    boot = identity.next_boot(last[0] if last else 0)
    return boot, previous_end(outbox, boot)


def previous_end(outbox, boot):
    """The seq that ``boot`` - 1 would have used next, from the outbox's own records; None if they can't
    tell."""
    last = outbox.last_sealed
    if last is None or outbox.damaged:
        return None
    return last[1] + 1 if last[0] == boot - 1 else 0
