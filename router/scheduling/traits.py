"""Reads of a request's body what tells of its work, without parsing it; pure.

The body was parsed once for its model, and may be many megabytes. A key of JSON stands
in plain quotes; in a text they would be escaped, so a key that is found is one.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from router.scheduling.request import Traits

_SESSION_BYTES = 1024  # the model, what the system says, and the first message
_LOOKED_AT = 4096  # at both ends: the fields beside the texts are few and short
_LIMITS = (
    b'"num_predict"',
    b'"max_tokens"',
    b'"max_completion_tokens"',
    b'"max_output_tokens"',
)
_NUMBER = re.compile(rb"\s*:\s*(\d{1,9})\b")
# What Ollama loads a model anew for, where it differs (`Runner` in its options).
_LOADED_WITH = (
    b'"num_ctx"',
    b'"num_batch"',
    b'"num_gpu"',
    b'"main_gpu"',
    b'"use_mmap"',
    b'"num_thread"',
)
_VALUE = re.compile(rb"\s*:\s*(-?\d{1,9}|true|false)\b")
_SHAPES = (
    (b'"tools"', "tools"),
    (b'"format"', "format"),
    (b'"response_format"', "format"),
)
# A picture or a sound is no text, and counts by the model's own rules.
_BINARY_KEYS = (b'"images"', b'"image_url"', b'"input_audio"', b'"image"')
_BINARY_BYTES = 1024  # a string that long without a space in its beginning
_BEGINNING = 256


def traits_of(body: bytes) -> Traits:
    """Return what the body of an inference request says of its work."""
    ends = body
    if len(body) > 2 * _LOOKED_AT:
        ends = body[:_LOOKED_AT] + b"\n" + body[-_LOOKED_AT:]
    shape = next((shape for key, shape in _SHAPES if key in ends), "")
    options = _options(ends) if b'"options"' in ends else ""
    return Traits(_text_bytes(body, ends), _most_tokens(ends), shape, options)


def session_of(body: bytes) -> str:
    """Return what a conversation's requests have in common: how they begin."""
    return blake2b(body[:_SESSION_BYTES], digest_size=16).hexdigest()


def _most_tokens(ends: bytes) -> int | None:
    for key in _LIMITS:
        at = ends.find(key)
        if at >= 0:
            found = _NUMBER.match(ends, at + len(key))
            return int(found[1]) or None if found else None
    return None


def _options(ends: bytes) -> str:
    """Return the options of a load in one order: `num_ctx=8192 num_gpu=0`."""
    found = []
    for key in _LOADED_WITH:
        at = ends.find(key)
        if at >= 0 and (value := _VALUE.match(ends, at + len(key))):
            found.append(f"{key[1:-1].decode()}={value[1].decode()}")
    return " ".join(found)


def _text_bytes(body: bytes, ends: bytes) -> int:
    if not any(key in ends for key in _BINARY_KEYS):
        return len(body)
    return len(body) - sum(
        len(each)
        for each in body.split(b'"')
        if len(each) >= _BINARY_BYTES and b" " not in each[:_BEGINNING]
    )
