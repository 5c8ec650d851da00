"""Reads and checks the weekly window in which a job may run; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from router.jobs.model import Span, TimeWindow

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMED = {
    "daily": tuple(range(7)),
    "weekdays": tuple(range(5)),
    "weekend": (5, 6),
    "weekends": (5, 6),
}
_EVERY_DAY = tuple(range(7))
_TIMES = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-(?:([01]?\d|2[0-3]):([0-5]\d)|24:00)")
_DASHES = re.compile(r"\s*[-\u2013\u2014]\s*")
_BETWEEN = re.compile(r"[\s,;]+")
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES
_MOST_CHARACTERS = 500


class WindowError(ValueError):
    """An invalid window; `param` names the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


def parse(text: str, zone: str) -> TimeWindow:
    """Read `20:00-06:00` or `Mon-Fri 20:00-6:00, Sat, Sun` in an IANA zone.

    A time that passes midnight belongs to the day on which it begins; a day without a
    time counts in full. Raises WindowError.
    """
    spans = tuple(_spans(text[:_MOST_CHARACTERS]))
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WindowError(
            f"must be an IANA zone such as 'Europe/Berlin', got {zone[:60]!r}", "zone"
        ) from None
    return TimeWindow(spans, zone)


def _spans(text: str) -> Iterator[Span]:
    words = [word for word in _BETWEEN.split(_DASHES.sub("-", text.strip())) if word]
    if not words:
        raise _wrong(text)
    days: set[int] = set()
    timed = False  # whether a time came for these days
    for word in words:
        if word[0].isdigit():
            yield _timed(word, tuple(sorted(days)) or _EVERY_DAY)
            timed = True
        else:
            days = (set() if timed else days) | set(_days(word, text))
            timed = False
    if not timed:
        yield Span(tuple(sorted(days)), 0, _DAY_MINUTES)


def _timed(word: str, days: tuple[int, ...]) -> Span:
    found = _TIMES.fullmatch(word)
    if not found:
        raise _wrong(word)
    start = int(found[1]) * 60 + int(found[2])
    end = int(found[3]) * 60 + int(found[4]) if found[3] else _DAY_MINUTES
    if start == end:
        raise WindowError(f"must not begin when it ends, got {word!r}", "window")
    return Span(days, start, end)


def _days(word: str, text: str) -> tuple[int, ...]:
    """Read `Mon`, `Monday`, `Mon-Fri`, `Sat-Mon` or `weekdays`."""
    if word.lower() in _NAMED:
        return _NAMED[word.lower()]
    first, dash, last = word.partition("-")
    begin = _day(first, text)
    end = _day(last, text) if dash else begin
    count = (end - begin) % 7 + 1
    return tuple((begin + step) % 7 for step in range(count))


def _day(word: str, text: str) -> int:
    name = word.lower().rstrip(".")
    if len(name) < 3 or name[:3] not in _DAYS or not _full(name):
        raise _wrong(text)
    return _DAYS.index(name[:3])


def _full(name: str) -> bool:
    """Say whether it begins as a day's name does, such as `tues`."""
    rest = ("day", "sday", "nesday", "rsday", "day", "urday", "day")
    whole = name[:3] + rest[_DAYS.index(name[:3])]
    return whole.startswith(name)


def _wrong(got: str) -> WindowError:
    return WindowError(
        "must be like '20:00-06:00' or 'Mon-Fri 20:00-6:00, Sat, Sun', got"
        f" {got[:40]!r}",
        "window",
    )


def shown(window: TimeWindow) -> str:
    return ", ".join(_shown(span) for span in window.spans)


def _shown(span: Span) -> str:
    times = f"{_clock(span.start)}-{_clock(span.end)}"
    if span.days == _EVERY_DAY:
        return times
    names = [_DAYS[day].title() for day in span.days]
    together = span.days == tuple(range(span.days[0], span.days[0] + len(span.days)))
    days = f"{names[0]}-{names[-1]}" if together and len(names) > 2 else " ".join(names)
    return f"{days} {times}"


def is_open(window: TimeWindow | None, now: float) -> bool:
    """Say whether `now` (unix seconds) is in the window; its end is outside."""
    if window is None:
        return True
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(window.zone))
    minute = local.weekday() * _DAY_MINUTES + local.hour * 60 + local.minute
    return any(_within(span, minute) for span in window.spans)


def _within(span: Span, minute: int) -> bool:
    """Say whether a minute of the week is in it; what passes Sunday comes round."""
    length = (span.end - span.start) % _DAY_MINUTES or _DAY_MINUTES
    return any(
        (minute - day * _DAY_MINUTES - span.start) % _WEEK_MINUTES < length
        for day in span.days
    )


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
