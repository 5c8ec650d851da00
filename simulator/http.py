"""A compact HTTP/1.1 server side on asyncio: what Ollama's clients need.

One connection, one exchange at a time. A client that goes away is noticed at
once (reading never stops), so that its slot can be freed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: RST instead of FIN
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


App = Callable[[Request, "Reply"], None]


class BadHttpError(Exception):
    """What came is no HTTP/1.1 that we read; the status to answer with."""

    def __init__(self, status: int) -> None:
        super().__init__(_REASONS[status])
        self.status = status


def chunk(data: bytes) -> bytes:
    """Frame data as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def read_head(head: bytes) -> Request:
    """Parse a request head; raises BadHttpError."""
    try:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        pairs = (line.split(":", 1) for line in lines if line)
        headers = {name.lower(): value.strip() for name, value in pairs}
    except ValueError:
        raise BadHttpError(400) from None
    if not version.startswith("HTTP/1."):
        raise BadHttpError(505)
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return Request(method, urlsplit(target).path, headers, b"")


class Reply:
    """The answer to one request: whole, or begun and fed in chunks."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self.begun = False
        self.on_gone: Callable[[], None] | None = None

    def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer with a body of known length."""
        extra = [*headers, ("Content-Length", str(len(body)))]
        payload = b"" if self._request.method == "HEAD" else body
        self._connection.write(self._head(status, content_type, extra) + payload)
        self._end()

    def write(self, chunks: bytes, content_type: str = "") -> None:
        """Send framed chunks, before the first ones the head of a 200."""
        if not self.begun:
            extra = [("Transfer-Encoding", "chunked")]
            chunks = self._head(200, content_type, extra) + chunks
            self.begun = True
        self._connection.write(chunks)

    def finish(self) -> None:
        """End a chunked body cleanly."""
        self._connection.write(b"0\r\n\r\n")
        self._end()

    def close(self) -> None:
        """Close in mid-body, after what was written is out."""
        self._connection.close()

    def reset(self) -> None:
        """Reset the connection."""
        self._connection.reset()

    @property
    def blocked(self) -> bool:
        """Whether the client reads more slowly than we write."""
        return self._connection.blocked

    def _head(
        self, status: int, content_type: str, extra: list[tuple[str, str]]
    ) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        lines.append(f"Date: {formatdate(usegmt=True)}")
        if not self._request.keep_alive:
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in extra]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _end(self) -> None:
        self.on_gone = None
        self._connection.next(keep_alive=self._request.keep_alive)


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, app: App, connections: set[Connection]) -> None:
        self._app = app
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._head: Request | None = None  # its body is still coming
        self._reply: Reply | None = None
        self._last = False  # nobody listens any more: no further request
        self.blocked = False

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  for mypy
        self._transport = transport
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._reply is None:
            self._parse()
        elif len(self._buffer) > MAX_HEAD_BYTES:
            self.reset()  # pipelines more than anyone needs

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's
        self._connections.discard(self)
        self._transport = None
        reply, self._reply = self._reply, None
        if reply is not None and reply.on_gone is not None:
            reply.on_gone()

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False

    # --- the reply's side ---

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def next(self, *, keep_alive: bool) -> None:
        """Go on to the next request, or close."""
        self._reply = None
        if self._last or not keep_alive:
            self.close()
        elif self._buffer and self._transport is not None:
            asyncio.get_running_loop().call_soon(self._parse)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def close_when_idle(self) -> None:
        """Close now, or as soon as the reply under way is complete."""
        self._last = True
        if self._reply is None:
            self.close()

    # --- requests ---

    def _parse(self) -> None:
        if self._reply is not None or self._transport is None:
            return
        try:
            request = self._take()
        except BadHttpError as error:
            refused = Request("GET", "", {"connection": "close"}, b"")
            text = f"{error.status} {error}".encode()
            self._begin(refused).send(error.status, text, "text/plain; charset=utf-8")
            return
        if request is not None:
            self._app(request, self._begin(request))

    def _begin(self, request: Request) -> Reply:
        self._reply = Reply(self, request)
        return self._reply

    def _take(self) -> Request | None:
        """Take one whole request out of the buffer; None: more must come."""
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise BadHttpError(431)
                return None
            self._head = read_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if self._head.headers.get("expect", "").lower() == "100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._take_body(self._head.headers)
        if body is None:
            return None
        head, self._head = self._head, None
        return Request(head.method, head.path, head.headers, body)

    def _take_body(self, headers: Mapping[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._take_chunks()
        length = headers.get("content-length", "0")
        if not length.isdigit():
            raise BadHttpError(400)
        if int(length) > MAX_BODY_BYTES:
            raise BadHttpError(413)
        if len(self._buffer) < int(length):
            return None
        body = bytes(self._buffer[: int(length)])
        del self._buffer[: int(length)]
        return body

    def _take_chunks(self) -> bytes | None:
        parts: list[bytes] = []
        at = 0
        while True:
            end = self._buffer.find(b"\r\n", at)
            if end < 0:
                break
            try:
                size = int(bytes(self._buffer[at:end]).split(b";")[0], 16)
            except ValueError:
                raise BadHttpError(400) from None
            start = end + 2
            if not 0 <= size <= MAX_BODY_BYTES - start:
                raise BadHttpError(413)
            if len(self._buffer) < start + size + 2:
                break
            parts.append(bytes(self._buffer[start : start + size]))
            at = start + size + 2
            if size == 0:
                del self._buffer[:at]
                return b"".join(parts)
        if len(self._buffer) > MAX_BODY_BYTES:
            raise BadHttpError(413)
        return None
