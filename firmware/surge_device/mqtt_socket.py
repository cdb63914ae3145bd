"""Opens the TCP or TLS stream to a broker, on MicroPython.

Place in the flow: ``mqtt`` calls ``open_stream`` through a parameter, so that tests can put another stream
there. What it does not do: no MQTT, and no use of ``asyncio.open_connection``. That one, cancelled by a
time-out, leaks its socket (the unix port's sockets have no finaliser), which over a day without a broker
uses up all descriptors.

Rules: every socket that does not become the result is closed. With TLS the broker's certificate and host
name are checked unless ``verify=False`` was asked for explicitly; the handshake runs inside the first
write, so nothing, least of all a password, leaves before it succeeded.

Known limits: ``getaddrinfo`` blocks the whole event loop (an address instead of a name avoids it), and so
do the computations of a TLS handshake (a second or so on an ESP32). Certificates have validity dates: a
board must know the time before it connects with TLS.
"""

import asyncio
import select
import socket
from errno import ECONNREFUSED, EINPROGRESS

from surge_device.mqtt_errors import MqttLinkLost, MqttTimeout, MqttTlsError

POLL_MS = 20  # how often a pending TCP connection is looked at
_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"
_PEM_END = b"-----END CERTIFICATE-----"


def pem_to_der(data: bytes) -> bytes:
    """The one certificate of a PEM file as DER; DER stays as it is. Some boards read no PEM."""
    if not data.strip().startswith(b"-----"):
        return data
    begin, end = data.find(_PEM_BEGIN), data.find(_PEM_END)
    if begin < 0 or end < begin or data.find(_PEM_BEGIN, end) >= 0:
        raise MqttTlsError("a CA file must hold exactly one certificate")
    from binascii import a2b_base64

    return a2b_base64(b"".join(data[begin + len(_PEM_BEGIN) : end].split()))


def make_tls_context(ca_file, verify=True):
    """A client context that requires a certificate signed by the CA in ``ca_file`` (PEM or DER).

    ``verify=False`` accepts any certificate: whoever sits between can then read and change everything.
    """
    import tls  # of MicroPython >= 1.23; the ``ssl`` wrapper is not on every port

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.verify_mode = tls.CERT_NONE
        return context
    if not ca_file:
        raise MqttTlsError("TLS needs the file of the CA that signed the broker's certificate")
    try:
        with open(ca_file, "rb") as file:
            authority = pem_to_der(file.read())
        context.verify_mode = tls.CERT_REQUIRED
        context.load_verify_locations(authority)
    except (OSError, ValueError) as fault:
        raise MqttTlsError("the CA file %s can't be used: %s" % (ca_file, fault))
    return context


async def open_stream(settings, context, clock, sleep_ms):
    """An asyncio stream to ``settings.host``; ``context`` None: no TLS. Tries each address of the host
    once.
    """
    where = "%s port %d" % (settings.host, settings.port)
    try:
        addresses = socket.getaddrinfo(settings.host, settings.port, 0, socket.SOCK_STREAM)
    except OSError as fault:
        raise MqttLinkLost("no address for %s (%s): check the name and the network" % (settings.host, fault))
    deadline_ms = clock.uptime_ms() + settings.io_timeout_ms
    reason = "no address"
    for family, kind, protocol, _, address in addresses:
        stream = None
        sock = socket.socket(family, kind, protocol)
        try:
            await _connect(sock, address, deadline_ms, clock, sleep_ms)
            if context:
                sock = context.wrap_socket(
                    sock,
                    server_hostname=settings.server_hostname or settings.host,
                    do_handshake_on_connect=False,
                )
                sock.setblocking(False)
            stream = asyncio.StreamReader(sock)
            return stream
        except OSError as fault:
            reason = str(fault)
        except ValueError as fault:
            raise MqttTlsError("TLS with %s can't start: %s" % (where, fault))
        finally:
            if stream is None:
                sock.close()
    raise MqttLinkLost("no connection to %s: %s; is the broker running there?" % (where, reason))


async def _connect(sock, address, deadline_ms, clock, sleep_ms):
    """Connect without blocking. It polls: asyncio has no public way to wait for a foreign socket."""
    sock.setblocking(False)
    try:
        sock.connect(address)
    except OSError as fault:
        if fault.errno != EINPROGRESS:
            raise
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    while True:
        ready = poller.poll(0)
        if ready:
            break
        if clock.uptime_ms() >= deadline_ms:
            raise MqttTimeout("the broker's host did not accept the connection in time")
        await sleep_ms(POLL_MS)
    if ready[0][1] & (select.POLLERR | select.POLLHUP):
        sock.read(1)  # raises what went wrong; sockets have no getsockopt here
        raise OSError(ECONNREFUSED)
