"""Real sockets that behave as an Ollama may: well, wrong, slowly or not at all."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "exporters" / "ollama"


def recorded() -> dict[str, bytes]:
    """Return what a real Ollama answered, by path."""
    return {f"/api/{path.stem}": path.read_bytes() for path in DATA.glob("*.json")}


@contextlib.contextmanager
def answering(
    replies: Mapping[str, bytes],
    status: int = 200,
    *,
    stuck: str = "",
    **headers: str,
) -> Iterator[str]:
    """Answer each path with its bytes, but `stuck` never; yield the base URL."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == stuck:
                over.wait()
                return
            body = replies.get(self.path, b"")
            self.send_response(status if body else 404)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client had enough
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        over.set()
        http.shutdown()
        thread.join()
        http.server_close()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Accept connections (the kernel does) and never say a byte."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """Send `head`, then a space every 50 ms for as long as anybody listens."""
    stop = threading.Event()

    def drip(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(65536)
            client.sendall(head)
            while not stop.wait(0.05):
                client.sendall(b" ")

    def accept(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=drip, args=(client,)).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            stop.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def json_bytes(value: object) -> bytes:
    return json.dumps(value).encode()
