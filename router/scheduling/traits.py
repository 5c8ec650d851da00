"""Reads of a request's body what tells of its work, without parsing it; pure.

The body was parsed once for its model, and may be many megabytes. A key of JSON stands
in plain quotes; in a text they would be escaped, so a key that is found is one.
"""

from __future__ import annotations

import re
from zlib import crc32

from router.scheduling.request import Traits

_SESSION_BYTES = 1024  # the model, what the system says, and the first message
_LOOKED_AT = 4096  # at both ends: the fields beside the texts are few and short
_LIMITS = (
    *(b"num_predict", b"max_tokens"),
    *(b"max_completion_tokens", b"max_output_tokens"),
)
# What Ollama loads a model anew for, where it differs (`Runner` in its options).
_LOADED_WITH = (
    *(b"num_ctx", b"num_batch", b"num_gpu"),
    *(b"main_gpu", b"use_mmap", b"num_thread"),
)
_SHAPES = {b"tools": "tools", b"format": "format", b"response_format": "format"}
# A picture or a sound is no text, and counts by the model's own rules.
_BINARY_KEYS = {b"images", b"image_url", b"input_audio", b"image"}
# All in one search: one for each takes five times as long.
_KEYS = re.compile(
    rb'"(%b)"(?:\s*:\s*(-?\d{1,9}|true|false)\b)?'
    % b"|".join((*_LIMITS, b"options", *_LOADED_WITH, *_SHAPES, *_BINARY_KEYS))
)
_BINARY_BYTES = 1024  # a string that long without a space in its beginning
_BEGINNING = 256


def traits_of(body: bytes) -> Traits:
    """Return what the body of an inference request says of its work."""
    ends = body
    if len(body) > 2 * _LOOKED_AT:
        ends = body[:_LOOKED_AT] + b"\n" + body[-_LOOKED_AT:]
    found: dict[bytes, bytes] = {}  # a number or a truth value, by key
    for key, value in _KEYS.findall(ends):
        found.setdefault(key, value)
    limit = next((found[key] for key in _LIMITS if key in found), b"")
    most = int(limit) or None if limit.isdigit() else None
    shape = next((shape for key, shape in _SHAPES.items() if key in found), "")
    options = _options(found) if b"options" in found else ""
    size = len(body) if _BINARY_KEYS.isdisjoint(found) else _text_bytes(body)
    return Traits(size, most, shape, options)


def session_of(body: bytes) -> str:
    """Return what a conversation's requests have in common: how they begin."""
    return str(crc32(body[:_SESSION_BYTES]))


def _options(found: dict[bytes, bytes]) -> str:
    """Return the options of a load in one order: `num_ctx=8192 num_gpu=0`."""
    return b" ".join(
        key + b"=" + value for key in _LOADED_WITH if (value := found.get(key))
    ).decode()


def _text_bytes(body: bytes) -> int:
    return len(body) - sum(
        len(each)
        for each in body.split(b'"')
        if len(each) >= _BINARY_BYTES and b" " not in each[:_BEGINNING]
    )
