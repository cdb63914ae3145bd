"""What a broker needs for itself alone: its folder and its port.

Place in the flow: `embedded` takes both before it starts the server. Rule kept: a second server never opens a
store that one is using (nats-server itself looks at the port only after it has opened the store, and would
damage it).
"""

import errno
import os
import socket
from pathlib import Path

from surge_gateway.broker.errors import NO_ROOM, BrokerDiskFull, BrokerError
from surge_host.private_files import take_lock

LOCK_FILE = "lock"
FOLDER_IN_USE = "another gateway runs a broker in this folder"


class FolderClaim:
    """An exclusive lock on a folder, until `release` or the end of this process, and of the server that has
    `descriptor` as well: so a server that outlives its gateway keeps the next one from its store."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int | None:
        """What holds the lock; None while it isn't claimed."""
        return self._descriptor

    def take(self, folder: Path) -> None:
        """Claims the folder, unless it is claimed here already. BrokerError if another process has it."""
        if self._descriptor is not None:
            return
        try:
            self._descriptor = take_lock(folder / LOCK_FILE)
        except BlockingIOError:
            raise BrokerError(
                FOLDER_IN_USE,
                f"broker.folder = {folder}",
                "stop that gateway, or set another broker.folder",
            ) from None
        except OSError as error:
            kind = BrokerDiskFull if error.errno in NO_ROOM else BrokerError
            raise kind(
                f"can't write: {error.strerror}",
                f"broker.folder = {folder}",
                "check its owner, permissions and free space",
            ) from error

    def release(self) -> None:
        """Gives the folder back, if it was claimed."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def check_port_free(host: str, port: int) -> None:
    """BrokerError if this host and port can't be listened on now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does it: connections that linger from before don't count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise port_in_use(host, port) from error
        raise BrokerError(
            f"can't listen: {error.strerror}",
            _where(host, port),
            "set broker.host to an address of this machine, and broker.port to one that its user may open",
        ) from error


def port_in_use(host: str, port: int) -> BrokerError:
    """The error for a port that another program listens on."""
    return BrokerError(
        f"port {port} is in use",
        _where(host, port),
        "stop what listens there (another broker or gateway?), or set another broker.port",
    )


def _where(host: str, port: int) -> str:
    return f"broker.host = {host}, broker.port = {port}"
