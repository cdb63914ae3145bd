"""The wire format that every hop of Surge agrees on.

Place in the flow: device, gateway, backend and auditor all encode and decode with these modules.
They do no I/O, read no clock, keep no state and draw no random numbers. They run unchanged on
MicroPython (>= 1.23) and CPython; ``ed25519`` alone needs CPython, because no board signs.

The pages under ``protocol/spec`` say what each message means, the vectors beside them what the bytes are.
"""

WIRE_VERSION = 1
