"""A relay before a server, that counts what passes: bytes each way, and requests. Connections stay as they are."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Relay:
    """Listens on a free port of the loopback address, and hands everything on."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests = self.sent = self.received = 0

    def counts(self) -> dict[str, int]:
        """Return what has passed so far: requests, bytes to the server, bytes from it."""
        return {"requests": self.requests, "bytes_sent": self.sent, "bytes_received": self.received}

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for way in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=way, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, outward: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if outward:
                    self.sent += len(data)
                    self.requests += data.count(b" HTTP/1.1\r\n")
                else:
                    self.received += len(data)
                target.sendall(data)
        with suppress(OSError):  # the other one has closed as well
            target.shutdown(socket.SHUT_WR)
