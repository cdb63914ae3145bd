"""Asks an NTP server for the time: SNTP version 4 (RFC 4330, RFC 5905), one question, one answer.

``surge_device.clock`` takes the result. Doesn't set the board's own clock, and doesn't retry. Rules: only
an answer that echoes our random transmit time counts, so a blind forger can't set the clock; a server that
isn't synchronised is no server. Name resolution blocks for as long as the port's resolver takes.
"""

import os
import socket
import struct

from surge_device.errors import NetworkError

PORT = 123
TIMEOUT_MS = 3000
POLL_MS = 20
_LENGTH = 48
_SECONDS_1900_TO_1970 = 2208988800
_ERA_S = 1 << 32  # the 32-bit seconds wrap in 2036; values in the lower half are of the next era


async def query(host, sleep_ms, port=PORT, timeout_ms=TIMEOUT_MS):
    """Milliseconds since 1970 at this moment, give or take half the round trip. Raises NetworkError."""
    try:
        address = socket.getaddrinfo(host, port)[0][-1]
        asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise NetworkError(
            "NTP server '%s': error %s; remedy: check ntp_host in settings.json" % (host, error.args[0])
        )
    try:
        asked.setblocking(False)
        nonce = os.urandom(8)
        asked.sendto(b"\x23" + bytes(39) + nonce, address)  # leap 0, version 4, mode 3: client
        for _ in range(timeout_ms // POLL_MS):
            await sleep_ms(POLL_MS)
            try:
                answer = asked.recv(_LENGTH)
            except OSError:  # nothing yet
                continue
            unix_ms = decode_answer(answer, nonce)
            if unix_ms is not None:
                return unix_ms
    except OSError as error:
        raise NetworkError("NTP server '%s': error %s; remedy: check the network" % (host, error.args[0]))
    finally:
        asked.close()
    raise NetworkError("NTP server '%s': no valid answer in %d ms" % (host, timeout_ms))


def decode_answer(answer, nonce):
    """The server's transmit time in milliseconds since 1970, or None when it isn't an answer to our
    question."""
    if len(answer) != _LENGTH or answer[24:32] != nonce:
        return None
    leap, mode, stratum = answer[0] >> 6, answer[0] & 7, answer[1]
    if leap == 3 or mode != 4 or not 1 <= stratum <= 15:
        return None
    seconds, fraction = struct.unpack(">II", answer[40:48])
    if seconds < 1 << 31:
        seconds += _ERA_S
    return (seconds - _SECONDS_1900_TO_1970) * 1000 + (fraction * 1000 >> 32)
