"""Durations as Go writes them, which Ollama's clients send: `30s`, `1m30s`, `1.5h`."""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_LONGEST_TEXT = 64
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float | None:
    """Return seconds; None where it is no duration. A bare number is none, but 0."""
    sign = -1.0 if text.startswith("-") else 1.0
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if digits == "0":
        return 0.0
    if not digits or len(digits) > _LONGEST_TEXT:
        return None
    seconds, at = 0.0, 0
    while at < len(digits):
        part = _PART.match(digits, at)
        if part is None:
            return None
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    return sign * seconds
