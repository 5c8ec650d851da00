"""What serves the pages: a thread for each connection, and room for the next scrape.

Whoever opens sockets and lets bytes trickle, or does not read what it asked for, must
not keep Prometheus out: heads have a deadline and a size, and where all threads are
taken the connection that has waited longest for its client makes room.
"""

from __future__ import annotations

import contextlib
import io
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import ThreadingWSGIServer

from exporters import logs
from exporters.addresses import Listen

log = logs.get(__name__)

# Below the unit's TasksMax=128, beside the collectors' own threads.
MOST_CONNECTIONS = 64
HEAD_SECONDS = 10.0
MOST_HEAD_BYTES = 32 * 1024
SEND_SECONDS = 30  # for a whole page

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class _State(Enum):
    """What a connection waits for."""

    HEAD = auto()  # its client
    PAGE = auto()  # us
    READER = auto()  # its client


class _Connections:
    """The connections that have a thread; the oldest idle one makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: dict[socket.socket, _State] = {}

    def enter(self, peer: socket.socket) -> bool:
        """Take one in; False where none can make room."""
        with self._lock:
            if len(self._open) >= self._most and not self._evict():
                return False
            self._open[peer] = _State.HEAD
        return True

    def mark(self, peer: socket.socket, state: _State) -> None:
        with self._lock:
            if peer in self._open:
                self._open[peer] = state

    def leave(self, peer: socket.socket) -> None:
        with self._lock:
            self._open.pop(peer, None)

    def _evict(self) -> bool:
        for state in (_State.HEAD, _State.READER):
            for peer, found in self._open.items():
                if found is state:
                    with contextlib.suppress(OSError):
                        peer.shutdown(socket.SHUT_RDWR)  # its thread ends by this
                    del self._open[peer]
                    return True
        return False


class _Head(io.RawIOBase):
    """Reads what a client sends: so many bytes, within so many seconds, in all."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._deadline = time.monotonic() + HEAD_SECONDS
        self._left = MOST_HEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0 or self._left <= 0:
            raise TimeoutError("the request did not come in time, or has no end")
        self._peer.settimeout(seconds)
        count = self._peer.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _Handler(WSGIRequestHandler):
    """Answers one request; its server knows what it waits for."""

    server: _ThreadPerRequest
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Head(self.connection))

    def parse_request(self) -> bool:
        good = super().parse_request()
        self.connection.settimeout(SEND_SECONDS)
        self.server.connections.mark(self.connection, _State.PAGE)
        return good

    def get_environ(self) -> dict[str, Any]:
        environ = super().get_environ()
        mark = self.server.connections.mark
        environ["inferops.sending"] = lambda: mark(self.connection, _State.READER)
        return environ

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing of each scrape."""


class _ThreadPerRequest(ThreadingWSGIServer):
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self.connections = _Connections(MOST_CONNECTIONS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # http.server's own asks DNS for this machine's full name, which can hang.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.connections.enter(request):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(_BUSY)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        self.connections.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what a request died of, in one line: a client that stalls is common."""
        del request
        log.warning(
            "request_failed", client=client_address, error=repr(sys.exception())
        )


class _ThreadPerRequestV6(_ThreadPerRequest):
    address_family = socket.AF_INET6


def serving(app: Callable[..., Any], listen: Listen) -> WSGIServer:
    """Bind and return the server; raises OSError. The caller runs it."""
    kind = _ThreadPerRequestV6 if ":" in listen.host else _ThreadPerRequest
    return make_server(listen.host, listen.port, app, kind, _Handler)
