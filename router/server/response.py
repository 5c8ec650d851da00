"""gunicorn's response and the handling of one request, without what costs and serves
nobody here: access log, request hooks, proxies' own protocol, early hints, a head
that leaves apart from its body.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gunicorn.http import errors, wsgi
from gunicorn.http.message import TOKEN_RE
from gunicorn.util import http_date, is_hoppish, unquote_to_wsgi_str

from router.logs.events import get_logger

log = get_logger(__name__)


@lru_cache(maxsize=64)  # the same for all of one second
def _begin(first_line: str, second: int, *, close: bool, chunked: bool) -> str:
    """Return how an answer begins."""
    lines = [
        first_line,
        f"Date: {http_date(second)}",
        f"Connection: {'close' if close else 'keep-alive'}",
        *(["Transfer-Encoding: chunked"] if chunked else []),
    ]
    return "".join(f"{line}\r\n" for line in lines)


@lru_cache(maxsize=512)
def _goes_out(name: str) -> bool:
    """Whether a header is for the client; hop-by-hop ones are the router's own."""
    if not TOKEN_RE.fullmatch(name):
        raise errors.InvalidResponseHeaderName(repr(name))
    return not is_hoppish(name)


def _has_bad_letters(*values: str) -> bool:
    return wsgi.HEADER_VALUE_RE.fullmatch("".join(values)) is None


_COPIED_BYTES = 65_536  # what is larger leaves apart from the head


def send_all(client: Any, data: bytes) -> None:
    """Send at once what fits, which is nearly always all; wait only for the rest."""
    try:
        sent = client._sock.send(data)  # noqa: SLF001 - must not wait yet
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        client.sendall(memoryview(data)[sent:])


class BufferedChunk(bytes):
    """A piece of a body that goes out together with what follows it."""

    __slots__ = ()


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn ships no types
    """Sends its head together with the first of its body, and `Held` with the next."""

    def __init__(self, req: Any, sock: Any, cfg: Any) -> None:
        super().__init__(req, sock, cfg)
        self.headers_sent: bool = False
        self._unsent = b""

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Take the headers as gunicorn does; a name is looked at once for all."""
        if _has_bad_letters(*(value for _, value in headers)):
            bad = next(name for name, value in headers if _has_bad_letters(value))
            raise errors.InvalidResponseHeader(repr(bad))
        for name, value in headers:
            if not _goes_out(name):
                continue
            if name.lower() == "content-length":
                self.response_length = int(value)
            self.headers.append((name, value.strip(" \t")))

    def default_headers(self) -> list[str]:
        major, minor = self.req.version
        line = f"HTTP/{major}.{minor} {self.status}"
        close, second = bool(self.should_close()), int(time.time())
        return [_begin(line, second, close=close, chunked=self.chunked)]

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = self.default_headers()
        lines += [f"{name}: {value}\r\n" for name, value in self.headers]
        self._unsent = ("".join(lines) + "\r\n").encode("latin-1")
        self.headers_sent = True

    def write(self, arg: bytes) -> None:
        super().write(arg)
        if self._unsent and not arg:  # an empty piece asks for the head alone
            self._send(b"")

    def close(self) -> None:
        self.send_headers()
        end = b"0\r\n\r\n" if self.chunked else b""
        if self._unsent or end:
            self._send(end)

    def _emit_body(self, data: bytes) -> None:
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data
        if isinstance(data, BufferedChunk):
            self._unsent += framed
        else:
            self._send(framed)

    def _send(self, data: bytes) -> None:
        unsent, self._unsent = self._unsent, b""
        if len(data) > _COPIED_BYTES:
            send_all(self.sock, unsent)
            unsent = b""
        send_all(self.sock, unsent + data)


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """A client's connection: its address, and by which listener and scheme it came."""

    socket: Any
    address: Any
    listener: str | tuple[str, int]
    scheme: str = "http"


def serve(worker: Any, req: Any, peer: ClientConnection) -> None:
    """Answer one request; raises StopIteration where the connection must end."""
    client = peer.socket
    resp = Response(req, client, worker.cfg)
    if req._expected_100_continue:  # noqa: SLF001 - as gunicorn's own `create`
        client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    environ = _environ(worker.cfg, req, peer)
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
        log.exception(
            "answer_broke_off", request_id=dict(resp.headers).get("X-Request-Id")
        )
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        raise StopIteration from error
    if resp.should_close():
        raise StopIteration


@lru_cache(maxsize=16)
def _common(cfg: Any, server: str | tuple[str, int], scheme: str) -> dict[str, Any]:
    """Return what all requests to one listener have in common."""
    name, port = (server, "") if isinstance(server, str) else server[:2]
    return {
        **wsgi.base_environ(cfg),
        "wsgi.multithread": True,
        "wsgi.url_scheme": scheme,
        "SCRIPT_NAME": "",
        "SERVER_NAME": name,
        "SERVER_PORT": str(port),
    }


def _environ(cfg: Any, req: Any, peer: ClientConnection) -> dict[str, Any]:
    """Return the request's environ, as PEP 3333 and gunicorn name what is in it."""
    environ, addr = _common(cfg, peer.listener, peer.scheme).copy(), peer.address
    major, minor = req.version
    path = req.path
    environ["wsgi.input"] = req.body
    environ["gunicorn.socket"] = peer.socket
    environ["REQUEST_METHOD"] = req.method
    environ["QUERY_STRING"] = req.query
    environ["RAW_URI"] = req.uri
    environ["SERVER_PROTOCOL"] = f"HTTP/{major}.{minor}"
    environ["PATH_INFO"] = unquote_to_wsgi_str(path) if "%" in path else path
    if isinstance(addr, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = addr[0], str(addr[1])
    else:
        environ["REMOTE_ADDR"] = addr if isinstance(addr, str) else addr.decode()
    for name, value in req.headers:
        key = _key(name)
        # Repeated ones are one list; the parser refuses those that may not be.
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


@lru_cache(maxsize=512)
def _key(name: str) -> str:
    plain = name.replace("-", "_")
    return plain if plain in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{plain}"


def _write(resp: Response, pieces: Any) -> None:
    try:
        for piece in pieces:
            resp.write(piece)
        resp.close()
    finally:
        close = getattr(pieces, "close", None)
        if close:
            close()
