"""Limits of keys, tags and everyone: requests, tokens, energy, cost; pure.

Windows are calendar minutes, days and months in UTC, so that counts stay valid over a
restart. A request is admitted or refused when it arrives. What it uses is counted when
it ends; an admitted request is never cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from operator import itemgetter
from types import MappingProxyType

from router.access.principal import Principal

EVERYONE = "everyone"
_MOST_KNOWN = 4096
# Quantities, and the parts of a unit in which they are counted: energy in millijoules.
_PARTS = {"requests": 1, "tokens": 1, "job_items": 1, "joules": 1000, "cost": 10**9}
_SHOWN = ("requests", "tokens")  # clients have headers for these
# What a request may exceed, and what an item of a job.
REQUEST = ("requests", "tokens", "joules", "cost")
ITEM = ("job_items", "tokens", "joules", "cost")
_NOTHING = (0, 0)  # a count that never began
Counter = tuple[str, str, str]  # subject, what is counted, window


class LimitWindow(StrEnum):
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"

    def begin(self, now: float) -> int:
        """Return when the window that contains `now` began, in unix seconds."""
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


@lru_cache(maxsize=8)
def _ends(minute: int) -> dict[str, int]:
    return {w.value: w.end(w.begin(minute * 60)) for w in LimitWindow}


def _left(window: str, now: float) -> float:
    """Return the seconds until a window is over."""
    return _ends(int(now // 60))[window] - now


@dataclass(frozen=True)  # no slots: what is worked out is kept beside the fields
class KeyLimits:
    """The limits of a key, a tag or everyone; None: no limit.

    concurrent_requests: running at one time, those in the queue included
    max_output_tokens:   of one answer; a request for more is reduced to this
    max_context_tokens:  of one prompt, and of the context that a request asks for
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
        """Return the limits that are set, by name."""
        names = (each.name for each in fields(self))
        return {n: most for n in names if (most := getattr(self, n)) is not None}

    def __bool__(self) -> bool:
        return bool(self.given())

    @cached_property  # asked several times for each request
    def windows(self) -> tuple[tuple[str, str, int], ...]:
        """Each limited quantity with its window and the parts that are allowed."""
        return tuple(
            (what, window.value, round(most * parts))
            for what, parts in _PARTS.items()
            for window in LimitWindow
            if (most := getattr(self, f"{what}_per_{window}", None)) is not None
        )


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, eq=False)  # no slots: what is worked out is kept beside it
class HeldLimits:
    """What holds for a principal: its key's, its tags' and everybody's limits.

    limits: each by its subject, which is what it is counted under
    """

    limits: tuple[tuple[str, KeyLimits], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.limits)

    @cached_property
    def concurrent(self) -> tuple[tuple[str, int], ...]:
        """How many requests of which subjects may be under way."""
        return tuple(
            (subject, most)
            for subject, each in self.limits
            if (most := each.concurrent_requests) is not None
        )

    @cached_property
    def windows(self) -> Mapping[str, tuple[tuple[Counter, int], ...]]:
        """Of all that is counted, the counters, and how many parts are allowed."""
        return {
            what: tuple(
                ((subject, what, window), most)
                for subject, each in self.limits
                for counted, window, most in each.windows
                if counted == what
            )
            for what in _PARTS
        }

    @cached_property
    def max_output_tokens(self) -> int | None:
        return _least(each.max_output_tokens for _, each in self.limits)

    @cached_property
    def max_context_tokens(self) -> int | None:
        return _least(each.max_context_tokens for _, each in self.limits)


@dataclass(frozen=True, slots=True)
class LimitRules:
    """Limits by key id, by tag, and for all together."""

    keys: Mapping[str, KeyLimits]
    tags: Mapping[str, KeyLimits]
    everyone: KeyLimits = NO_LIMITS
    _known: dict[str, HeldLimits] = field(default_factory=dict, compare=False)

    def known(self, principal: str) -> HeldLimits | None:
        """Return what holds for a principal's id, if it was asked for before."""
        return self._known.get(principal)

    def of(self, who: Principal) -> HeldLimits:
        """Return what holds for a principal, by what it is counted under."""
        known = self._known.get(who.id)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[who.id] = self._find(who)
        return known

    def _find(self, who: Principal) -> HeldLimits:
        found = [(who.id, self.keys.get(who.key, NO_LIMITS))]
        found += [(f"tag:{tag}", self.tags.get(tag, NO_LIMITS)) for tag in who.tags]
        found.append((EVERYONE, self.everyone))
        return HeldLimits(tuple(each for each in found if each[1]))


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A limit that a request would exceed, and the seconds until it would not."""

    subject: str
    name: str
    most: float
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """A limit and what is left of it, for a client; `what`: requests or tokens."""

    what: str
    most: int
    left: int
    reset_seconds: float


@dataclass(slots=True)
class Admission:
    """An admitted request, until it ends."""

    limits: HeldLimits
    ended: bool = False


def _least(values: Iterable[int | None]) -> int | None:
    return min((each for each in values if each is not None), default=None)


class LimitMeter:
    """Usage in the current windows; the caller stores what `changed` returns."""

    def __init__(self) -> None:
        self._counts: dict[Counter, tuple[int, int]] = {}  # begin of window, count
        self._running: dict[str, int] = {}
        self._changed: set[Counter] = set()

    def exceeded(self, limits: HeldLimits, now: float) -> Exceeded | None:
        """Return the limit that one more request would exceed for the longest."""
        found = [
            Exceeded(subject, "concurrent_requests", most, 1.0)
            for subject, most in limits.concurrent
            if self._running.get(subject, 0) >= most
        ]
        found += self._full(limits, REQUEST, now)
        return _longest(found)

    def item_exceeded(
        self, limits: HeldLimits, running: int, now: float
    ) -> Exceeded | None:
        """Return the limit that one more item of a job would exceed for the longest.

        running: items in flight, which are not counted yet
        """
        return _longest(self._full(limits, ITEM, now, {"job_items": running}))

    def _full(
        self,
        limits: HeldLimits,
        of: Iterable[str],
        now: float,
        ahead: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Exceeded]:
        begins = _begins(int(now // 60))
        return [
            _exceeded(counter, most, now)
            for what in of
            for counter, most in limits.windows[what]
            if self._count(counter, begins) + ahead.get(what, 0) >= most
        ]

    def charge(self, limits: HeldLimits, used: Mapping[str, float], now: float) -> None:
        """Count what was used, by what is counted; in its own unit."""
        for what, amount in used.items():
            if more := round(amount * _PARTS[what]):
                self._add(limits, what, more, now)

    def let_in(self, limits: HeldLimits, now: float) -> Admission:
        """Count a request that begins."""
        for subject, _ in limits.limits:
            self._running[subject] = self._running.get(subject, 0) + 1
        self._add(limits, "requests", 1, now)
        return Admission(limits)

    def end(self, ticket: Admission, tokens: int, now: float) -> None:
        """End a request and count its tokens; later calls do nothing."""
        if ticket.ended:
            return
        ticket.ended = True
        for subject, _ in ticket.limits.limits:
            left = self._running[subject] - 1
            if left:
                self._running[subject] = left
            else:
                del self._running[subject]
        if tokens:
            self._add(ticket.limits, "tokens", tokens, now)

    def usage(self, limits: HeldLimits, now: float) -> list[LimitStatus]:
        """Return of requests and of tokens the limit that is nearest."""
        begins = _begins(int(now // 60))
        found = []
        for what in _SHOWN:
            statuses = [
                (most - self._count(counter, begins), most, counter[2])
                for counter, most in limits.windows[what]
            ]
            if statuses:
                left, most, window = min(statuses, key=itemgetter(0))
                reset = _left(window, now)
                found.append(LimitStatus(what, most, max(0, left), reset))
        return found

    def load(self, rows: Iterable[tuple[str, str, str, int, int]]) -> None:
        """Load stored counts: subject, what, window, its begin, count."""
        for subject, what, window, begin, count in rows:
            self._counts[subject, what, window] = begin, count

    def changed(self) -> list[tuple[str, str, str, int, int]]:
        """Return the rows that changed since the last call."""
        keys, self._changed = self._changed, set()
        return [(*key, *self._counts[key]) for key in keys]

    def keep_again(self, rows: Iterable[tuple[str, str, str, int, int]]) -> None:
        """Return these rows again from the next call: they could not be stored."""
        for subject, what, window, _, _ in rows:
            self._changed.add((subject, what, window))

    def _count(self, counter: Counter, begins: Mapping[str, int]) -> int:
        begin, count = self._counts.get(counter, _NOTHING)
        return count if begin == begins[counter[2]] else 0

    def _add(self, limits: HeldLimits, what: str, more: int, now: float) -> None:
        begins = _begins(int(now // 60))
        for counter, _ in limits.windows[what]:
            count = self._count(counter, begins) + more
            self._counts[counter] = begins[counter[2]], count
            self._changed.add(counter)


def _exceeded(counter: Counter, most: int, now: float) -> Exceeded:
    subject, what, window = counter
    parts = _PARTS[what]
    shown = most / parts if parts > 1 else most
    left = max(1.0, _left(window, now))
    return Exceeded(subject, f"{what}_per_{window}", shown, left)


def _longest(found: Iterable[Exceeded]) -> Exceeded | None:
    return max(found, key=lambda each: each.retry_after_seconds, default=None)
