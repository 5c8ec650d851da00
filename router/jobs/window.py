"""Times of day in which a job may run; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from router.jobs.model import Window

_SHAPE = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)")


class WindowError(ValueError):
    """No window of time; `param` says which part is wrong."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


def parse(text: str, zone: str) -> Window:
    """Read `20:00-06:00` in an IANA zone. Raises WindowError."""
    found = _SHAPE.fullmatch(text.strip())
    if not found:
        raise WindowError(f"must be like '20:00-06:00', got {text[:40]!r}", "window")
    first, second, third, fourth = map(int, found.groups())
    start, end = first * 60 + second, third * 60 + fourth
    if start == end:
        raise WindowError("must not begin when it ends", "window")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WindowError(
            f"must be an IANA zone such as 'Europe/Berlin', got {zone[:60]!r}", "zone"
        ) from None
    return Window(start, end, zone)


def shown(window: Window) -> str:
    return f"{_clock(window.start)}-{_clock(window.end)}"


def is_open(window: Window | None, now: float) -> bool:
    """Say whether `now` (unix seconds) is within; the end is not."""
    if window is None:
        return True
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(window.zone))
    minute = local.hour * 60 + local.minute
    if window.start < window.end:
        return window.start <= minute < window.end
    return minute >= window.start or minute < window.end


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
