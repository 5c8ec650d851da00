"""Bodies that come compressed (`Content-Encoding`), decoded within bounds; no I/O.

Ollama reads zstd on one route and nothing on the others, so that what goes on to a
node is always plain.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

import brotli

from router.errors import (
    BadRequestError,
    BodyTooLargeError,
    UnsupportedEncodingError,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ACCEPTED", "coding_of", "decode", "most_decoded", "zstd"]

_IN_BYTES = 64 * 1024
_OUT_BYTES = 256 * 1024
_MOST_PARTS = 16  # frames of zstd, members of gzip
# Text of a chat shrinks to a fifth, the dullest log to a fiftieth.
_MOST_RATIO = 100
_ALWAYS_BYTES = 1024 * 1024
_WINDOW_LOG = 23  # 8 MiB, as RFC 8878 asks for and Ollama allows


class _Decoder(Protocol):
    """done: the stream's end was seen; `unused` came after it
    hungry: it has given out all that its input holds
    """

    done: bool
    hungry: bool
    unused: bytes

    def feed(self, data: bytes | memoryview) -> bytes:
        """Return at most about `_OUT_BYTES`."""
        ...


class _Zlib:
    """gzip and deflate; some send the latter bare, which its first byte shows."""

    def __init__(self, *, gzip: bool) -> None:
        self.done, self.hungry, self.unused = False, True, b""
        self._gzip = gzip
        self._decoder: zlib._Decompress | None = None
        self._tail = b""

    def feed(self, data: bytes | memoryview) -> bytes:
        if self._decoder is None:
            bare = not self._gzip and data[0] & 0x0F != zlib.DEFLATED
            wbits = 31 if self._gzip else -15 if bare else 15
            self._decoder = zlib.decompressobj(wbits)
        piece = self._decoder.decompress(self._tail + bytes(data), _OUT_BYTES)
        self._tail = self._decoder.unconsumed_tail
        self.done, self.unused = self._decoder.eof, self._decoder.unused_data
        self.hungry = not self._tail and len(piece) < _OUT_BYTES
        return piece


class _Zstd:
    def __init__(self) -> None:
        self.done, self.hungry, self.unused = False, True, b""
        window = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG}
        self._decoder = zstd.ZstdDecompressor(options=window)

    def feed(self, data: bytes | memoryview) -> bytes:
        piece = self._decoder.decompress(data, _OUT_BYTES)
        self.done, self.unused = self._decoder.eof, self._decoder.unused_data
        self.hungry = self._decoder.needs_input
        return piece


class _Brotli:
    def __init__(self) -> None:
        self.done, self.hungry, self.unused = False, True, b""
        self._decoder = brotli.Decompressor()

    def feed(self, data: bytes | memoryview) -> bytes:
        piece: bytes = self._decoder.process(data, output_buffer_limit=_OUT_BYTES)
        self.done = self._decoder.is_finished()
        full = len(piece) >= _OUT_BYTES  # there is more, though all input was taken
        self.hungry = self._decoder.can_accept_more_data() and not full
        return piece


_DECODERS: Mapping[str, Callable[[], _Decoder]] = {
    "zstd": _Zstd,
    "gzip": partial(_Zlib, gzip=True),
    "x-gzip": partial(_Zlib, gzip=True),
    "deflate": partial(_Zlib, gzip=False),
    "br": _Brotli,
}
ACCEPTED = "zstd, gzip, deflate, br"
_FAULTS = (zlib.error, zstd.ZstdError, brotli.error)


def coding_of(header: str) -> str:
    """Read `Content-Encoding`; empty where the body is plain.

    Raises UnsupportedEncodingError, for two on top of each other as well.
    """
    named = (each.strip().lower() for each in header.split(","))
    codings = [each for each in named if each not in {"", "identity"}]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in _DECODERS:
        raise UnsupportedEncodingError(
            f"Content-Encoding: must be one of {ACCEPTED}, got {header[:60]!r}"
        )
    return codings[0]


def most_decoded(size: int, most_bytes: int) -> int:
    """Return how much a body of this size may decode to."""
    return min(most_bytes, max(_ALWAYS_BYTES, _MOST_RATIO * size))


def decode(body: bytes, coding: str, most_bytes: int) -> bytes:
    """Return the plain body. Raises BadRequestError, BodyTooLargeError.

    It holds the interpreter's lock for the time of a piece only: to be run in a
    native thread.
    """
    most = most_decoded(len(body), most_bytes)
    plain = io.BytesIO()
    try:
        for piece in _pieces(body, coding):
            plain.write(piece)
            if plain.tell() > most:
                raise BodyTooLargeError(
                    f"the {coding} body of {len(body)} bytes decodes to over {most}"
                )
    except _FAULTS as error:
        raise BadRequestError(f"the body is not {coding}: {error}") from error
    return plain.getvalue()


def _pieces(body: bytes, coding: str) -> Iterator[bytes]:
    view, at = memoryview(body), 0
    for _ in range(_MOST_PARTS):
        decoder = _DECODERS[coding]()
        while not decoder.done:
            fresh = view[at : at + _IN_BYTES] if decoder.hungry else b""
            if decoder.hungry and not fresh:
                raise BadRequestError(f"the {coding} body ends before its time")
            at += len(fresh)
            yield decoder.feed(fresh)
        at -= len(decoder.unused)
        if at == len(body):
            return
    raise BadRequestError(f"the {coding} body has more than {_MOST_PARTS} parts")
