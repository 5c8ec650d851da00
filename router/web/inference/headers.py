"""What a request asks of the queue in its headers: priority, policy, time limits."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

import gevent

from router.errors import BadRequestError
from router.model import Outcome, Priority
from router.pickers import PICKERS
from router.runtime.cancellation import Cancellation
from router.text.duration import parse_duration

_TIMEOUT = "X-Request-Timeout"
_FIRST_ANSWER = "X-First-Token-Timeout"
_PRIORITY = "HTTP_X_INFEROPS_PRIORITY"
_PICKER = "HTTP_X_INFEROPS_PICKER"
_SESSION = "HTTP_X_INFEROPS_SESSION"
_LONGEST_SESSION = 64
_KEYS = {
    name: f"HTTP_{name.upper().replace('-', '_')}" for name in (_TIMEOUT, _FIRST_ANSWER)
}
_READ = frozenset({*_KEYS.values(), _PRIORITY, _PICKER, _SESSION})


class RequestTerms(NamedTuple):
    """What a request asks for, from its arrival.

    seconds:             for queue and whole reply
    first_token_seconds: until the first token
    picker:              the policy that is to choose its node; empty: its model's
    session:             what its conversation is told by
    """

    priority: Priority
    seconds: float
    first_token_seconds: float = float("inf")
    picker: str = ""
    session: str = ""


USUAL = RequestTerms(Priority.INTERACTIVE, float("inf"))


_ASKED = {p.value: p for p in (Priority.INTERACTIVE, Priority.BATCH)}


def read_terms(environ: Mapping[str, Any], longest_seconds: float) -> RequestTerms:
    """Read the headers. Raises BadRequestError."""
    if environ.keys().isdisjoint(_READ):  # as of nearly all requests
        return RequestTerms(Priority.INTERACTIVE, longest_seconds)
    seconds = min(_seconds(environ, _TIMEOUT), longest_seconds)
    return RequestTerms(
        _priority(environ),
        seconds,
        _seconds(environ, _FIRST_ANSWER),
        _picker(environ),
        environ.get(_SESSION, "")[:_LONGEST_SESSION],
    )


def _picker(environ: Mapping[str, Any]) -> str:
    name: str = environ.get(_PICKER, "").strip().lower()
    if name and name not in PICKERS:
        known = ", ".join(PICKERS)
        raise BadRequestError(
            f"X-InferOps-Picker: must be one of {known}, got {name[:40]!r}"
        )
    return name


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


def _seconds(environ: Mapping[str, Any], header: str) -> float:
    text: str | None = environ.get(_KEYS[header])
    if text is None:
        return float("inf")
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_duration(text.strip()) or -1.0
    if not isfinite(seconds) or seconds <= 0:
        raise BadRequestError(
            f"{header}: must be over 0, in seconds (30) or with units"
            f" (1m30s), got {text[:40]!r}"
        )
    return seconds


class TimeLimit:
    """Stops a request when its time is over, wherever it is then."""

    __slots__ = ("_timer",)

    def __init__(self, seconds: float, cancellation: Cancellation) -> None:
        self._timer = gevent.get_hub().loop.timer(max(0.0, seconds))
        self._timer.start(cancellation.stop, Outcome.DEADLINE)

    def close(self) -> None:
        self._timer.stop()
        self._timer.close()
