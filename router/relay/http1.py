"""HTTP/1.1 replies, parsed as their bytes arrive; no sockets in here.

Only what Ollama and proxies in front of it send: a head, then a body that is
chunked, of a known length, or ended by the close of the connection.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache

MAX_HEAD_BYTES = 65_536
MOST_SIZE_DIGITS = 18  # of a size line without an extension, with its CR LF
_MOST_REMEMBERED_BYTES = 2048
_MAX_CHUNK_LINE = 256  # a size and an extension; longer is not HTTP
_MAX_TRAILERS = 8_192
# Others would be refused on the way to the client, or hide a header from one of us.
_IN_A_HEAD = b"\t\r\n" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_IN_A_NAME = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")


class ProtocolError(ValueError):
    """What the node sent is not an HTTP/1.1 reply."""


@dataclass(frozen=True, slots=True)
class Head:
    """A reply's head; header names in lower case, in order."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    keep_alive: bool

    def get(self, name: str) -> str:
        """Return the first value of a header, or an empty string."""
        for key, value in self.headers:
            if key == name:
                return value
        return ""


def split_head(buffer: bytes) -> tuple[Head, bytes] | None:
    """Return the head and the bytes behind it; None while it is incomplete.

    Interim replies (1xx) are skipped.
    """
    while True:
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                raise ProtocolError(f"head over {MAX_HEAD_BYTES} bytes")
            return None
        raw, buffer = buffer[:end], buffer[end + 4 :]
        known = len(raw) <= _MOST_REMEMBERED_BYTES
        head = _parse_head(raw) if known else _parse_head.__wrapped__(raw)
        if head.status >= 200:
            return head, buffer


@lru_cache(maxsize=256)
def _parse_head(raw: bytes) -> Head:
    """Parse a head; a node's heads of one second are all alike."""
    ends = raw.count(b"\r\n")
    if raw.translate(None, _IN_A_HEAD) or not ends == raw.count(b"\n") == raw.count(
        b"\r"
    ):
        raise ProtocolError("control characters in the head")
    lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    code, _, reason = rest.partition(" ")
    if version not in {"HTTP/1.1", "HTTP/1.0"} or not _is_status(code):
        raise ProtocolError(f"not a status line: {lines[0][:80]!r}")
    headers = tuple(_parse_header(line) for line in lines[1:])
    tokens = ",".join(v for k, v in headers if k == "connection").lower()
    keep_alive = "close" not in tokens and (
        version == "HTTP/1.1" or "keep-alive" in tokens
    )
    return Head(int(code), reason, headers, keep_alive)


def _is_status(code: str) -> bool:
    return len(code) == 3 and code.isascii() and code.isdigit() and code >= "100"


def _parse_header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or not _IN_A_NAME.issuperset(name):
        raise ProtocolError(f"not a header: {line[:80]!r}")
    return name.lower(), value.strip(" \t")


class Body:
    """A reply's body without its framing.

    chunked:  framed in chunks
    ended:    the framing said so: nothing is missing
    reusable: the connection may carry another request
    """

    def __init__(self, head: Head) -> None:
        self.ended = False
        self._surplus = False
        self._keep_alive = head.keep_alive
        self.chunked = "chunked" in head.get("transfer-encoding").lower()
        self._left = 0 if self.chunked else self._length(head)
        self._buffer = b""
        self._in_trailers = False
        if self._left == 0 and not self.chunked:
            self.ended = True

    @staticmethod
    def _length(head: Head) -> int | None:
        """Return the body's length; None where the close of it tells."""
        if head.status in {204, 304}:
            return 0
        values = {value for name, value in head.headers if name == "content-length"}
        if not values:
            return None
        value = values.pop()
        if values or not (value.isascii() and value.isdigit()):
            raise ProtocolError(f"bad content-length {value!r}")
        return int(value)

    @property
    def reusable(self) -> bool:
        return self.ended and self._keep_alive and not self._surplus

    @property
    def between_chunks(self) -> bool:
        """Whether a chunk's size line comes next."""
        within = self._left or self._buffer or self._in_trailers or self.ended
        return self.chunked and not within

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the connection, return the body's own among them."""
        if self.ended:
            self._surplus = self._surplus or bool(data)
            return b""
        if self.chunked:
            return self._feed_chunks(data)
        if self._left is None:
            return data
        part = data[: self._left]
        self._left -= len(part)
        self.ended = self._left == 0
        self._surplus = len(data) > len(part)
        return part

    def close(self) -> None:
        """Take note that the node closed: the end of a body without a length."""
        if not self.chunked and self._left is None:
            self.ended = True
            self._keep_alive = False

    def _feed_chunks(self, data: bytes) -> bytes:
        """Cut chunks out of the buffer; a piece of a chunk goes on at once."""
        data = self._buffer + data if self._buffer else data
        parts: list[bytes] = []
        at = 0 if self._left or self._in_trailers else _cut_whole(data, parts)
        while at < len(data) and not self.ended:
            if self._left:
                part = data[at : at + self._left - 2] if self._left > 2 else b""
                if part:
                    parts.append(part)
                    at += len(part)
                    self._left -= len(part)
                    continue
                if len(data) - at < self._left:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise ProtocolError("chunk not ended by CRLF")
                at += 2
                self._left = 0
                continue
            step = self._next_line(data, at)
            if step is None:
                break
            at = step
        self._buffer = data[at:] if not self.ended else b""
        self._surplus = self.ended and at < len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next_line(self, data: bytes, at: int) -> int | None:
        """Read a chunk's size line or a trailer; return where to go on."""
        end = data.find(b"\r\n", at)
        limit = _MAX_TRAILERS if self._in_trailers else _MAX_CHUNK_LINE
        if end < 0 or end - at > limit:
            if len(data) - at > limit:
                raise ProtocolError("chunk size line or trailer too long")
            return None
        if self._in_trailers:
            self.ended = end == at
            return end + 2
        size = chunk_size(data[at:end])
        self._in_trailers = size == 0
        self._left = size + 2 if size else 0
        return end + 2


def _cut_whole(data: bytes, parts: list[bytes]) -> int:
    """Put the leading whole chunks' payloads into `parts`; return where they end.

    The last chunk of a body, which is empty, is left to whoever reads trailers.
    """
    at = 0
    while True:
        start = data.find(b"\r\n", at, at + _MAX_CHUNK_LINE)
        size = chunk_size(data[at:start]) if start >= 0 else 0
        end = start + 2 + size
        if not size or end + 2 > len(data):
            return at
        if data[end : end + 2] != b"\r\n":
            raise ProtocolError("chunk not ended by CRLF")
        parts.append(data[start + 2 : end])
        at = end + 2


@lru_cache(maxsize=4096)  # the sizes of a stream's lines are few
def chunk_size(line: bytes) -> int:
    """Read a chunk's size line. Raises ProtocolError."""
    digits = line.partition(b";")[0].strip(b" \t")
    if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise ProtocolError(f"bad chunk size {line[:40]!r}")
    return int(digits, 16)


def whole_chunks(data: bytes) -> bytes:
    """Return the payload of whole chunks; empty where `data` is not just those.

    The last chunk, which is empty, is not one of them. Raises ProtocolError.
    """
    at, payloads = 0, []
    while at < len(data):
        line_end = data.find(b"\r\n", at, at + MOST_SIZE_DIGITS)
        size = chunk_size(data[at:line_end]) if line_end > at else 0
        following = line_end + size + 4
        if not size or not data.startswith(b"\r\n", following - 2):
            return b""
        payloads.append(data[line_end + 2 : following - 2])
        at = following
    return b"".join(payloads)
