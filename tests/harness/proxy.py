"""A reverse proxy on this machine, as people put one before the router."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable

Rewrite = Callable[[list[str]], list[str]]


def with_headers(*headers: str) -> Rewrite:
    """Pass `Host` on, and add headers."""
    return lambda lines: [*lines, *headers]


def with_own_host(port: int) -> Rewrite:
    """Ask the router by its own address, as nginx does where nothing else is said."""

    def rewrite(lines: list[str]) -> list[str]:
        kept = [line for line in lines if not line.lower().startswith("host:")]
        return [*kept, f"Host: 127.0.0.1:{port}"]

    return rewrite


class Proxy:
    """Passes one request of each connection on, with its head rewritten."""

    def __init__(self, upstream: int, rewrite: Rewrite) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                _pass_on(self.request, upstream, rewrite)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _length(lines: list[str]) -> int:
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0


def _pass_on(client: socket.socket, upstream: int, rewrite: Rewrite) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65536)
        if not piece:
            return
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    length = _length(lines)
    while len(body) < length:
        body += client.recv(65536)
    lines = [line for line in lines if not line.lower().startswith("connection:")]
    sent = "\r\n".join([first, *rewrite(lines), "Connection: close", "", ""])
    with socket.create_connection(("127.0.0.1", upstream), timeout=30) as router:
        router.sendall(sent.encode("latin-1") + body)
        while piece := router.recv(65536):
            client.sendall(piece)
