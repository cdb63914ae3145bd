"""A TCP proxy that can fall silent: it goes on reading from both sides and passes nothing on."""

import socket
import threading


class SilentProxy:
    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.swallow = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(("127.0.0.1", self._target_port))
            self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pump, args=(source, target), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.swallow.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side is gone, or the proxy closes
            return

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:  # it was shut down already
                pass
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()
