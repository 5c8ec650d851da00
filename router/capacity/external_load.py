"""Work on a node that the router did not send: only ever estimated; pure.

Ollama tells no count of what it runs, and GPU utilisation hardly differs between
one stream and sixteen. Three things speak: a reply slower than its concurrency
explains, a reply that waited inside the node although a slot was free, and an
`expires_at` that moved (it does when a model falls idle) without an end of ours.
An estimate takes slots away for a while, never the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from router.snapshot import ResidentModel

_SECONDS = 30.0  # an estimate lasts this long
_SLOW_RATIO = 0.6  # far outside the noise of replies
_SLOW_WITHIN_SECONDS = 60.0  # one slow reply may be its client's fault; two are not
_MOST = 8


class Evidence(StrEnum):
    """What speaks for others on a node."""

    SLOW = "slow"
    WAITED = "waited"
    EXPIRY = "expiry"


@dataclass(frozen=True, slots=True)
class ExternalEstimate:
    """So many streams of others, believed until then (monotonic seconds)."""

    streams: int
    until: float
    sign: Evidence


class ExternalLoad:
    """What is estimated for each node; `estimates` is mostly empty."""

    def __init__(self) -> None:
        self.estimates: dict[str, ExternalEstimate] = {}
        self._slow_at: dict[str, float] = {}

    def streams(self, node: str, now: float) -> int:
        found = self.of(node, now)
        return found.streams if found else 0

    def of(self, node: str, now: float) -> ExternalEstimate | None:
        found = self.estimates.get(node)
        if found and found.until <= now:
            del self.estimates[node]
            return None
        return found

    def replied(self, node: str, ratio: float, now: float) -> None:
        """Take a reply's speed as a share of what its concurrency explains."""
        if ratio >= _SLOW_RATIO:
            self._slow_at.pop(node, None)
            return
        before = self._slow_at.get(node)
        self._slow_at[node] = now
        if before is not None and now - before <= _SLOW_WITHIN_SECONDS:
            self.suspect(node, Evidence.SLOW, now)

    def suspect(self, node: str, sign: Evidence, now: float) -> None:
        """Believe in one stream more of others, from now on for a while."""
        streams = min(_MOST, self.streams(node, now) + 1)
        self.estimates[node] = ExternalEstimate(streams, now + _SECONDS, sign)


class Expiries:
    """Watches `expires_at` of resident models from poll to poll.

    seen_at: when each node's newest poll was taken in; others are late by much
    """

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, str]] = {}
        self.seen_at: dict[str, float] = {}
        self._polls: dict[str, Mapping[str, ResidentModel]] = {}

    def moved(
        self, node: str, resident: Mapping[str, ResidentModel], at: float
    ) -> list[str]:
        """Take what a poll saw; name the models that fell idle since the last."""
        if resident is self._polls.get(node):
            return []
        self._polls[node], self.seen_at[node] = resident, at
        now = {
            name: str(model.listing.get("expires_at", ""))
            for name, model in resident.items()
        }
        before, self.seen[node] = self.seen.get(node, {}), now
        return [m for m, at in now.items() if m in before and before[m] != at]
