"""Limits of keys, tags and everybody: requests, tokens, energy, money; pure.

Windows are those of the clock in UTC (minute, day, month), so that a count means the
same after a restart. A request is let in or not at its arrival; what it uses is counted
when it ends, and nothing that was let in is ever cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from types import MappingProxyType

from router.access.principal import Principal

__all__ = [
    "EVERYONE",
    "ITEM",
    "NO_LIMITS",
    "REQUEST",
    "Admission",
    "Exceeded",
    "Held",
    "KeyLimits",
    "LimitMeter",
    "LimitRules",
    "LimitStatus",
    "LimitWindow",
]

EVERYONE = "everyone"
_MOST_KNOWN = 4096
# What is counted, in whole parts of its unit: energy in millijoules.
_PARTS = {"requests": 1, "tokens": 1, "job_items": 1, "joules": 1000, "cost": 10**9}
_SHOWN = frozenset({"requests", "tokens"})  # clients have headers for these
# What a request may exceed, and what an item of a job.
REQUEST = frozenset({"requests", "tokens", "joules", "cost"})
ITEM = frozenset({"job_items", "tokens", "joules", "cost"})
Counter = tuple[str, str, str]  # subject, what is counted, window


class LimitWindow(StrEnum):
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"

    def begin(self, now: float) -> int:
        """Return when the window of this time began, in unix seconds."""
        return _begins(int(now // 60))[self.value]

    def end(self, begin: int) -> int:
        if self is LimitWindow.MONTH:
            return self.begin(begin + 32 * 86_400)
        return begin + (60 if self is LimitWindow.MINUTE else 86_400)


@lru_cache(maxsize=8)  # each window begins with a minute
def _begins(minute: int) -> dict[str, int]:
    now = minute * 60
    month = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0)
    return {
        LimitWindow.MINUTE.value: now,
        LimitWindow.DAY.value: now - now % 86_400,
        LimitWindow.MONTH.value: int(month.timestamp()),
    }


def _left(window: str, now: float) -> float:
    """Return the seconds until a window is over."""
    known = LimitWindow(window)
    return known.end(known.begin(now)) - now


@dataclass(frozen=True)  # no slots: what is worked out is kept beside the fields
class KeyLimits:
    """None: no limit.

    concurrent_requests: under way at one time, those in the queue included
    max_output_tokens:   of one answer; asked for more, it gets this
    max_context_tokens:  of one prompt, and of the window that a request asks for
    cost:                in the currency of `usage.price_per_kwh`
    """

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    requests_per_month: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    concurrent_requests: int | None = None
    max_output_tokens: int | None = None
    max_context_tokens: int | None = None
    job_items_per_day: int | None = None
    job_items_per_month: int | None = None
    joules_per_day: int | None = None
    joules_per_month: int | None = None
    cost_per_day: float | None = None
    cost_per_month: float | None = None

    def given(self) -> dict[str, float]:
        """Return the limits that there are, by name."""
        names = (each.name for each in fields(self))
        return {n: most for n in names if (most := getattr(self, n)) is not None}

    def __bool__(self) -> bool:
        return bool(self.given())

    @cached_property  # asked several times for each request
    def windows(self) -> tuple[tuple[str, str, int], ...]:
        """What is counted, over which window, and how many parts are allowed."""
        return tuple(
            (what, window.value, round(most * parts))
            for what, parts in _PARTS.items()
            for window in LimitWindow
            if (most := getattr(self, f"{what}_per_{window}", None)) is not None
        )


NO_LIMITS = KeyLimits()
Held = tuple[tuple[str, KeyLimits], ...]


@dataclass(frozen=True, slots=True)
class LimitRules:
    """Limits by key id, by tag, and for all together."""

    keys: Mapping[str, KeyLimits]
    tags: Mapping[str, KeyLimits]
    everyone: KeyLimits = NO_LIMITS
    _known: dict[str, Held] = field(default_factory=dict, compare=False)

    def known(self, principal: str) -> Held | None:
        """Return what holds for a principal's id, if it was asked for before."""
        return self._known.get(principal)

    def of(self, who: Principal) -> Held:
        """Return what holds for a principal, by what it is counted under."""
        known = self._known.get(who.id)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[who.id] = self._find(who)
        return known

    def _find(self, who: Principal) -> Held:
        found = [(who.id, self.keys.get(who.key, NO_LIMITS))]
        found += [(f"tag:{tag}", self.tags.get(tag, NO_LIMITS)) for tag in who.tags]
        found.append((EVERYONE, self.everyone))
        return tuple((subject, limits) for subject, limits in found if limits)


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A limit that a request would go beyond; seconds until it would not."""

    subject: str
    name: str
    most: float
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """How a limit stands, as a client is told of it; `what`: requests or tokens."""

    what: str
    most: int
    left: int
    reset_seconds: float


@dataclass(slots=True)
class Admission:
    """What was let in, until it ends."""

    limits: Held
    max_output_tokens: int | None
    max_context_tokens: int | None = None
    ended: bool = False


def _least(values: Iterable[int | None]) -> int | None:
    return min((each for each in values if each is not None), default=None)


class LimitMeter:
    """What was used in the current windows. No I/O: `changed` is what to keep."""

    def __init__(self) -> None:
        self._counts: dict[Counter, tuple[int, int]] = {}  # begin of window, count
        self._running: dict[str, int] = {}
        self._changed: set[Counter] = set()

    def exceeded(self, limits: Held, now: float) -> Exceeded | None:
        """Return the limit that one more request would exceed for the longest."""
        found = [
            Exceeded(subject, "concurrent_requests", most, 1.0)
            for subject, each in limits
            if (most := each.concurrent_requests) is not None
            and self._running.get(subject, 0) >= most
        ]
        found += self._full(limits, REQUEST, now)
        return max(found, key=lambda each: each.retry_after_seconds, default=None)

    def item_exceeded(self, limits: Held, running: int, now: float) -> Exceeded | None:
        """Return the limit that one more item of a job would exceed for the longest.

        running: items that are not counted yet
        """
        found = self._full(limits, ITEM, now, {"job_items": running})
        return max(found, key=lambda each: each.retry_after_seconds, default=None)

    def _full(
        self,
        limits: Held,
        of: frozenset[str],
        now: float,
        ahead: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Exceeded]:
        begins = _begins(int(now // 60))
        return [
            Exceeded(
                subject,
                f"{what}_per_{window}",
                most / parts if (parts := _PARTS[what]) > 1 else most,
                max(1.0, _left(window, now)),
            )
            for subject, each in limits
            for what, window, most in each.windows
            if what in of
            and self._count((subject, what, window), begins) + ahead.get(what, 0)
            >= most
        ]

    def charge(self, limits: Held, used: Mapping[str, float], now: float) -> None:
        """Count what was used, by what is counted; in its own unit."""
        for what, amount in used.items():
            if more := round(amount * _PARTS[what]):
                for subject, each in limits:
                    self._add(subject, each, what, more, now)

    def let_in(self, limits: Held, now: float) -> Admission:
        """Count a request that begins."""
        for subject, each in limits:
            self._running[subject] = self._running.get(subject, 0) + 1
            self._add(subject, each, "requests", 1, now)
        return Admission(
            limits,
            _least(each.max_output_tokens for _, each in limits),
            _least(each.max_context_tokens for _, each in limits),
        )

    def end(self, ticket: Admission, tokens: int, now: float) -> None:
        """Count what a request used; calls after the first do nothing."""
        if ticket.ended:
            return
        ticket.ended = True
        for subject, each in ticket.limits:
            left = self._running[subject] - 1
            if left:
                self._running[subject] = left
            else:
                del self._running[subject]
            if tokens:
                self._add(subject, each, "tokens", tokens, now)

    def usage(self, limits: Held, now: float) -> list[LimitStatus]:
        """Return of requests and of tokens the limit that is nearest."""
        nearest: dict[str, tuple[int, int, str]] = {}
        begins = _begins(int(now // 60))
        for subject, each in limits:
            for what, window, most in each.windows:
                if what not in _SHOWN:
                    continue
                left = max(0, most - self._count((subject, what, window), begins))
                known = nearest.get(what)
                if known is None or left < known[0]:
                    nearest[what] = left, most, window
        return [
            LimitStatus(what, most, left, _left(window, now))
            for what, (left, most, window) in nearest.items()
        ]

    def load(self, rows: Iterable[tuple[str, str, str, int, int]]) -> None:
        """Take over what was kept: subject, what, window, its begin, count."""
        for subject, what, window, begin, count in rows:
            self._counts[subject, what, window] = begin, count

    def changed(self) -> list[tuple[str, str, str, int, int]]:
        """Return the rows that changed since the last call."""
        keys, self._changed = self._changed, set()
        return [(*key, *self._counts[key]) for key in keys]

    def keep_again(self, rows: Iterable[tuple[str, str, str, int, int]]) -> None:
        """Have rows kept by the next call: the disk did not take them."""
        for subject, what, window, _, _ in rows:
            self._changed.add((subject, what, window))

    def _count(self, counter: Counter, begins: Mapping[str, int]) -> int:
        begin, count = self._counts.get(counter, (0, 0))
        return count if begin == begins[counter[2]] else 0

    def _add(
        self, subject: str, limits: KeyLimits, what: str, more: int, now: float
    ) -> None:
        begins = _begins(int(now // 60))
        for each, window, _ in limits.windows:
            if each == what:
                counter = subject, what, window
                count = self._count(counter, begins) + more
                self._counts[counter] = begins[window], count
                self._changed.add(counter)
