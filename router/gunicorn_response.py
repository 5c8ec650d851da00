"""gunicorn's response and the handling of one request, without what costs and serves
nobody here: access log, request hooks, a head that leaves apart from its body.
"""

from __future__ import annotations

import contextlib
import socket
import time
from functools import lru_cache
from typing import Any

from gunicorn.http import wsgi
from gunicorn.util import http_date

from router.logs import get_logger

log = get_logger(__name__)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    text: str = http_date(second)
    return text


def send_all(client: Any, data: bytes) -> None:
    """Send at once what fits, which is nearly always all; wait only for the rest."""
    try:
        sent = client._sock.send(data)  # noqa: SLF001 - must not wait yet
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        client.sendall(data[sent:])


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn ships no types
    """Sends its head together with the first of its body."""

    def __init__(self, req: Any, sock: Any, cfg: Any) -> None:
        super().__init__(req, sock, cfg)
        self.headers_sent: bool = False
        self._unsent = b""

    def default_headers(self) -> list[str]:
        major, minor = self.req.version
        headers = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Date: {_date(int(time.time()))}\r\n",
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n",
        ]
        if self.chunked:
            headers.append("Transfer-Encoding: chunked\r\n")
        return headers

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = self.default_headers()
        lines += [f"{name}: {value}\r\n" for name, value in self.headers]
        self._unsent = ("".join(lines) + "\r\n").encode("latin-1")
        self.headers_sent = True

    def write(self, arg: bytes) -> None:
        super().write(arg)
        if self._unsent:  # an empty piece asks for the head alone
            self._send(b"")

    def close(self) -> None:
        self.send_headers()
        end = b"0\r\n\r\n" if self.chunked else b""
        if self._unsent or end:
            self._send(end)

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _send(self, data: bytes) -> None:
        unsent, self._unsent = self._unsent, b""
        send_all(self.sock, unsent + data)


def serve(worker: Any, listener_name: Any, req: Any, client: Any, addr: Any) -> None:
    """Answer one request; raises StopIteration where the connection must end."""
    resp, environ = wsgi.create(
        req, client, addr, listener_name, worker.cfg, response_class=Response
    )
    environ["wsgi.multithread"] = True
    if not worker.alive:
        resp.force_close()
    try:
        _write(resp, worker.wsgi(environ, resp.start_response))
    except OSError:
        raise
    except Exception as error:
        if not resp.headers_sent:
            raise
        # A second answer on the same connection would corrupt the first.
        log.exception("answer_broke_off")
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        raise StopIteration from error
    if resp.should_close():
        raise StopIteration


def _write(resp: Response, pieces: Any) -> None:
    try:
        for piece in pieces:
            resp.write(piece)
        resp.close()
    finally:
        close = getattr(pieces, "close", None)
        if close:
            close()
