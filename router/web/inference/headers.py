"""What a request asks of the queue in its headers: its priority and its time limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import gevent

from router.cancellation import Attention
from router.duration import parse_duration
from router.errors import BadRequestError
from router.model import Outcome, Priority

_TIMEOUT = "HTTP_X_REQUEST_TIMEOUT"
_PRIORITY = "HTTP_X_INFEROPS_PRIORITY"


@dataclass(frozen=True, slots=True)
class Terms:
    """seconds: for queue and whole reply, from the request's arrival."""

    priority: Priority
    seconds: float


USUAL = Terms(Priority.INTERACTIVE, float("inf"))


_ASKED = {p.value: p for p in (Priority.INTERACTIVE, Priority.BATCH)}


def read_terms(environ: Mapping[str, Any], longest_seconds: float) -> Terms:
    """Read both headers. Raises BadRequestError."""
    return Terms(_priority(environ), min(_seconds(environ), longest_seconds))


def _priority(environ: Mapping[str, Any]) -> Priority:
    text: str | None = environ.get(_PRIORITY)
    if text is None:
        return Priority.INTERACTIVE
    try:
        return _ASKED[text.strip().lower()]
    except KeyError:
        known = " or ".join(_ASKED)
        raise BadRequestError(
            f"X-InferOps-Priority: must be {known}, got {text[:40]!r}"
        ) from None


def _seconds(environ: Mapping[str, Any]) -> float:
    text: str | None = environ.get(_TIMEOUT)
    if text is None:
        return float("inf")
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_duration(text.strip()) or -1.0
    if not isfinite(seconds) or seconds <= 0:
        raise BadRequestError(
            "X-Request-Timeout: must be over 0, in seconds (30) or with units"
            f" (1m30s), got {text[:40]!r}"
        )
    return seconds


class TimeLimit:
    """Stops a request when its time is over, wherever it is then."""

    __slots__ = ("_timer",)

    def __init__(self, seconds: float, attention: Attention) -> None:
        self._timer = gevent.get_hub().loop.timer(max(0.0, seconds))
        self._timer.start(attention.stop, Outcome.DEADLINE)

    def close(self) -> None:
        self._timer.stop()
        self._timer.close()
