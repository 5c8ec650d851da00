"""An HTTP server on loopback, on a thread of its own."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.harness.stopping import Stopping


class Quiet:
    """A request handler that logs nothing."""

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class HttpThread(ThreadingHTTPServer):
    """Serves from its making until `stop`, which waits for no reply."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        handler: type[BaseHTTPRequestHandler],
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__((host, port), handler)
        self.port: int = self.server_address[1]
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about connections that break, as many do on purpose."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Served(Stopping):
    """What answers by HTTP."""

    def __init__(
        self,
        handler: type[BaseHTTPRequestHandler],
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._http = HttpThread(handler, port, host)
        self.port, self.url = self._http.port, self._http.url

    def stop(self) -> None:
        self._http.stop()
