"""What each principal has attained of the nodes, so that each gets a like share; pure.

Least attained service: of those who wait, that principal is served next which has had
the fewest node-seconds. They are charged as expected when a request gets its slot, and
as they were when it ends. Who has nothing there is lifted to the least of those who
wait, less what now runs is to cost: so much a burst goes before others, and nobody
saves up more for a flood by staying away.

The time below which nobody starts moves by 1/`most` of all that is given. At most
`most` requests wait, so it never overtakes a fair share, and nobody is passed over for
good, not even by an endless line of principals that come once: see `FairShares.bound`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from router.scheduling.completion import Offer
from router.scheduling.request import Work

__all__ = ["FairShares", "TypicalNode"]

_MOST_KNOWN = 4096
_NEW = 0.05  # weight of a new reading


_Rates = tuple[float, float]  # tokens of prompts and of answers per node-second
_FIRST: _Rates = (1 / 0.0003, 100.0)
_LEAST_SECONDS = 1e-9


class TypicalNode:
    """What a model's work costs on the nodes that got some of it lately.

    The same work costs the same wherever it is sent: its client has no say in that.
    What streams share of a node counts for each in part. Speeds are averaged, not
    seconds: else what comes after a request that went to a CPU costs ten times as much.
    """

    def __init__(self) -> None:
        self._any = _FIRST
        self._models: dict[str, _Rates] = {}

    def node_seconds(self, model: str, work: Work) -> float:
        prompt, token = self._models.get(model, self._any)
        return work.prompt / prompt + work.tokens / token

    def learn(self, model: str, offer: Offer) -> None:
        """Take note of the offer that a request was sent by."""
        shown = (
            1 / max(offer.per_prompt_token, _LEAST_SECONDS),
            (offer.streams + 1) / max(offer.per_token, _LEAST_SECONDS),
        )
        self._any = _nearer(self._any, shown)
        self._models[model] = _nearer(self._models.get(model, shown), shown)
        if len(self._models) > _MOST_KNOWN:
            del self._models[next(iter(self._models))]


def _nearer(known: _Rates, shown: _Rates) -> _Rates:
    prompt, token = known
    return prompt + _NEW * (shown[0] - prompt), token + _NEW * (shown[1] - token)


@dataclass(slots=True)
class _Charged:
    principal: str
    cost: float
    seconds: float  # that it was expected to take


class FairShares:
    """Node-seconds attained, among the requests of one priority.

    most: requests that may wait at once
    now:  where a principal starts that nobody waits beside
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.now = 0.0
        self._attained: dict[str, float] = {}
        self._running: dict[Hashable, _Charged] = {}
        self._in_flight = 0.0  # node-seconds that those which run are to cost

    @property
    def running(self) -> int:
        """Return how many requests hold a slot."""
        return len(self._running)

    def attained(self, principal: str) -> float:
        return self._attained.get(principal, 0.0)

    def start(self, principal: str, least: float) -> float:
        """Return what a principal has that nothing waits of; `least`: of the others."""
        return max(self.now, least - self._in_flight, self.attained(principal))

    def lift(self, principal: str, least: float) -> None:
        """Have a principal begin to wait."""
        self._attained[principal] = self.start(principal, least)
        if len(self._attained) > _MOST_KNOWN:
            self._forget()

    def charge(
        self, running: Hashable, principal: str, cost: float, seconds: float
    ) -> None:
        """Count a request that got a slot; `seconds`: that it is expected to run."""
        self._attained[principal] = self.attained(principal) + cost
        self._running[running] = _Charged(principal, cost, seconds)
        self._in_flight += cost

    def served(self, cost: float, *, reached: float) -> None:
        """Move on; `reached`: what has been attained by all, where nobody waits now."""
        self.now = max(self.now + cost / self.most, reached)

    def ended(self, running: Hashable, seconds: float, *, contended: bool) -> None:
        """Charge what it took instead of what was expected.

        seconds:   that it ran; 0 for one that failed and is charged nothing
        contended: whether others wait: what ran while nobody did is forgotten
        """
        was = self._running.pop(running, None)
        if was is None:
            return
        self._in_flight -= was.cost
        if was.principal not in self._attained:
            return
        took = seconds / was.seconds if was.seconds > 0 else 1.0
        self._attained[was.principal] += was.cost * (took - 1 if contended else -1)

    def bound(self, place: float, largest: float) -> float:
        """Return the node-seconds given to all until a request is first in line.

        place:   what its principal will have attained before it
        largest: cost of a request
        """
        return self.most * (max(0.0, place - self.now) + largest)

    def _forget(self) -> None:
        """Forget who has no more than a newcomer, then who is known longest."""
        known = {p: had for p, had in self._attained.items() if had > self.now}
        surplus = len(known) - _MOST_KNOWN // 2
        for each in list(known)[: max(0, surplus)]:
            del known[each]
        self._attained = known
