"""Messages between the router and its sandbox: a small JSON head and bytes; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

OUT_OF_MEMORY = 70  # the exit code of a sandbox that ran out of its memory
_SIZES = struct.Struct("<II")

Frame = tuple[dict[str, Any], bytes]


def packed(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Encode a message; lone surrogates in its head are replaced."""
    try:
        text = orjson.dumps(head)
    except TypeError:
        text = orjson.dumps(clean(head))
    return _SIZES.pack(len(text), len(body)) + text + body


def clean(value: Any) -> Any:
    """Replace lone surrogates in a JSON value, and numbers beyond 64 bits by text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {clean(str(name)): clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**64 else str(value)
    return value


class Unpacker:
    """Decodes messages from bytes as they arrive."""

    def __init__(self) -> None:
        self._gathered = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._gathered += data
        while len(self._gathered) >= _SIZES.size:
            head, body = _SIZES.unpack_from(self._gathered)
            begin, end = _SIZES.size + head, _SIZES.size + head + body
            if len(self._gathered) < end:
                return
            with memoryview(self._gathered) as view:
                fields = orjson.loads(view[_SIZES.size : begin])
                whole = bytes(view[begin:end])
            del self._gathered[:end]
            yield fields, whole
