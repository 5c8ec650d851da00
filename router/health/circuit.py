"""One circuit: whether a node, or a model on it, may be asked; pure, time comes in.

It opens on failures in a row or in a window, and closes by what was proven, never by
time: small generations after a wait that grows, then one request at a time until one
was answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from router.model import Cause

_LONGER = 3.0  # each wait than the one before: two trials in the first 20 s


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"  # no request
    HALF_OPEN = "half_open"  # a trial has passed: one request at a time


@dataclass(frozen=True, slots=True)
class CircuitRule:
    """When a circuit opens, and how soon it is tried; seconds.

    in_a_row:  failures without a success between them
    failures:  failures among the last `window` results
    most_passes: trials that must pass in a row, once it opened as often
    calm_seconds: without a failure, after which earlier openings are forgotten
    """

    in_a_row: int = 3
    failures: int = 4
    window: int = 10
    window_seconds: float = 600.0
    first_wait_seconds: float = 2.0
    longest_wait_seconds: float = 60.0
    most_passes: int = 5
    calm_seconds: float = 600.0

    def wait_seconds(self, strikes: int) -> float:
        """Return the wait before a trial, after so many openings and failed trials."""
        wait = self.first_wait_seconds * _LONGER ** min(strikes - 1, 20)
        return min(self.longest_wait_seconds, wait)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt; `request` names the request that it may turn out to be of."""

    at: float
    cause: Cause
    text: str
    request: str = ""
    path: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Circuit:
    """The results of late, newest last, and what they came to.

    results: a failure, or None for a success
    strikes: openings and failed trials in a row: the wait grows with each
    openings: how often it opened before it was calm again
    passes:  trials that passed since it opened
    try_at:  when the next trial is due, while it is open
    closed_at: when it was last proven well
    """

    results: tuple[Failure | None, ...] = ()
    state: State = State.CLOSED
    strikes: int = 0
    openings: int = 0
    passes: int = 0
    opened_at: float = 0.0
    try_at: float = 0.0
    closed_at: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.state is State.OPEN

    @property
    def clean(self) -> bool:
        """Whether nothing is to be remembered: the same as no circuit at all."""
        return self == Circuit(results=self.results) and not any(self.results)

    @property
    def last(self) -> Failure | None:
        """Return the newest failure."""
        return next((each for each in reversed(self.results) if each), None)

    @property
    def in_a_row(self) -> int:
        """Count the failures since the last success."""
        count = 0
        for result in reversed(self.results):
            if result is None:
                break
            count += 1
        return count

    @property
    def failing(self) -> bool:
        """Whether the newest result is a failure."""
        return bool(self.results) and self.results[-1] is not None

    def calm(self, now: float, rule: CircuitRule) -> bool:
        """Say whether nothing is open and the last failure is long ago."""
        last = self.last
        since = max(last.at if last else self.closed_at, self.closed_at)
        return self.state is State.CLOSED and now - since > rule.calm_seconds

    def failed(
        self, failure: Failure, rule: CircuitRule, *, may_open: bool = True
    ) -> Circuit:
        """Take in a failed attempt; `may_open`: whether it may be the last straw."""
        openings = 0 if self.calm(failure.at, rule) else self.openings
        results = (*self.results, failure)[-rule.window :]
        changed = replace(self, results=results, openings=openings)
        if self.state is State.OPEN:
            return changed
        if self.state is State.HALF_OPEN or (may_open and changed.due_to_open(rule)):
            return changed.opened(failure.at, rule)
        return changed

    def succeeded(self, began_at: float, now: float, rule: CircuitRule) -> Circuit:
        """Take in a request that was answered, and when it began.

        One that began before the circuit opened proves nothing about it.
        """
        if self.state is not State.CLOSED and began_at < self.opened_at:
            return self
        if self.state is State.OPEN:
            return self.trial_passed(now, rule)
        if self.state is State.HALF_OPEN:
            # What opened it is over; openings are remembered until it was calm.
            return Circuit(results=(None,), openings=self.openings, closed_at=now)
        return replace(self, results=(*self.results, None)[-rule.window :])

    def trial_passed(self, now: float, rule: CircuitRule) -> Circuit:
        """Take in a small generation that succeeded: more are asked for each time."""
        if self.state is not State.OPEN:
            return self
        passes = self.passes + 1
        if passes >= min(self.openings, rule.most_passes):
            return replace(self, state=State.HALF_OPEN, passes=passes)
        return replace(self, passes=passes, try_at=now)

    def trial_failed(self, now: float, rule: CircuitRule) -> Circuit:
        """Wait longer after a small generation that failed."""
        if self.state is not State.OPEN:
            return self
        strikes = self.strikes + 1
        wait = rule.wait_seconds(strikes)
        return replace(self, strikes=strikes, passes=0, try_at=now + wait)

    def tried_now(self) -> Circuit:
        """Have a trial made at once."""
        return replace(self, try_at=0.0)

    def without(self, excused: Callable[[Failure], bool], rule: CircuitRule) -> Circuit:
        """Take back failures that turned out to be somebody else's."""
        results = tuple(r for r in self.results if r is None or not excused(r))
        if results == self.results:
            return self
        changed = replace(self, results=results)
        if self.state is State.CLOSED or changed.due_to_open(rule):
            return changed
        if self.strikes != self.openings:  # trials have failed as well
            return changed
        openings = self.openings - 1
        return Circuit(results=results, openings=openings, closed_at=self.closed_at)

    def due_to_open(self, rule: CircuitRule) -> bool:
        """Say whether the results are bad enough."""
        if self.in_a_row >= rule.in_a_row:
            return True
        newest = self.last
        if newest is None:
            return False
        since = newest.at - rule.window_seconds
        late = [each for each in self.results if each and each.at >= since]
        return len(late) >= rule.failures

    def opened(self, now: float, rule: CircuitRule) -> Circuit:
        """Let no request through until trials have passed."""
        strikes = max(self.strikes, self.openings) + 1
        return replace(
            self,
            state=State.OPEN,
            strikes=strikes,
            openings=self.openings + 1,
            passes=0,
            opened_at=now,
            try_at=now + rule.wait_seconds(strikes),
        )
