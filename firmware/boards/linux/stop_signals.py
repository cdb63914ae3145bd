"""Hears SIGINT and SIGTERM without being interrupted by them: blocked from the start, looked for by a task.

Between the system and the app, which then ends in order. MicroPython's own way, a KeyboardInterrupt raised by
the signal handler wherever the program is, may hit a garbage collection: the heap stays locked from there on,
and not even a last line can be written (seen in one interrupt of thirty). Needs the ``ffi`` module of the
unix port and a C library; where one is missing nothing is blocked, and MicroPython's own way remains.
"""

try:
    import ffi
except ImportError:
    ffi = None

SIGINT, SIGTERM = 2, 15
_SIG_BLOCK = 0  # on Linux
_SET_LEN = 128  # bytes of a sigset_t; no C library on Linux has a longer one
_LIBRARIES = ("libc.so.6", "libc.so")  # glibc, musl


class StopSignals:
    def __init__(self):
        self._set = bytearray(_SET_LEN)
        self._libc = _open()
        self.heard = self._libc is not None
        if self.heard:
            add = self._libc.func("i", "sigaddset", "Pi")
            self._libc.func("i", "sigemptyset", "P")(self._set)
            for signal in (SIGINT, SIGTERM):
                add(self._set, signal)
            self._libc.func("i", "sigprocmask", "iPP")(_SIG_BLOCK, self._set, None)
            self._pending = self._libc.func("i", "sigpending", "P")
            self._is_member = self._libc.func("i", "sigismember", "Pi")

    def asked(self):
        """The signal that waits, or None."""
        if self.heard and self._pending(self._set) == 0:
            for signal in (SIGINT, SIGTERM):
                if self._is_member(self._set, signal) == 1:
                    return signal
        return None


def _open():
    """The C library, or None."""
    for name in _LIBRARIES:
        try:
            return ffi.open(name)
        except (AttributeError, OSError):
            pass
    return None
