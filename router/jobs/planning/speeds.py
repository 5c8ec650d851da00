"""Speeds of nodes, learned from items and interactive requests; pure.

The ledger learns the speed of each of k streams. This adds the speed at which prompts
are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from router.capacity.ledger import Lease, Ledger
from router.model import Outcome, Timings
from router.runtime.recent import Recent
from router.snapshot import Snapshot

_SHARE = 0.1  # of a new reading
_LEAST_PROMPT = 32  # tokens: shorter ones measure the clock
_MOST = 4096
# A try in vain speaks against a node so many times its own length: one that died in
# its first second is soon like any other, one that hung for minutes is not.
_VAIN_TIMES = 10.0

_Key = tuple[str, str]


class LearnedSpeeds:
    """A `planning.protocols.Speeds` over the ledger; learns from every reply."""

    def __init__(
        self,
        ledger: Ledger,
        fleet: Callable[[], Snapshot],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._clock = clock
        self._prompts: Recent[_Key, float] = Recent(_MOST)
        self._in_vain: Recent[_Key, tuple[float, float]] = Recent(_MOST)
        ledger.listen(self._ended)

    def tokens_per_second(self, node: str, model: str, streams: int) -> float | None:
        return self._ledger.speed(node, model, streams)

    def in_vain(self, node: str, model: str) -> float:
        seconds, until = self._in_vain.get((node, model), (0.0, 0.0))
        return seconds if self._clock() < until else 0.0

    def worthwhile(self, node: str, model: str) -> int:
        return self._ledger.limit(node, model)

    def prompt_tokens_per_second(self, node: str, model: str) -> float | None:
        return self._prompts.get((node, model))

    def load_seconds(self, node: str, model: str) -> float:
        view = self._fleet().nodes.get(node)
        if view is None or (view.resident is not None and model in view.resident):
            return 0.0
        size = 0
        if view.present is not None and model in view.present:
            size = view.present[model].size_bytes
        return self._ledger.load_times.seconds(node, model, size)

    def streams(self, node: str) -> int:
        return self._ledger.in_flight(node)

    def nodes(self) -> Mapping[str, int]:
        return {name: self._ledger.usable(name) for name in self._fleet().nodes}

    def _ended(self, lease: Lease, outcome: Outcome, timings: Timings | None) -> None:
        key = (lease.node, lease.model)
        if outcome is Outcome.END:
            self._in_vain.pop(key, None)
        else:
            now = self._clock()
            seconds = max(self.in_vain(*key), now - lease.taken_at)
            self._in_vain[key] = (seconds, now + _VAIN_TIMES * seconds)
        if timings is not None:
            self._learn_prompt(lease, timings)

    def _learn_prompt(self, lease: Lease, timings: Timings) -> None:
        if timings.prompt_tokens < _LEAST_PROMPT or timings.prompt_seconds <= 0:
            return
        key = (lease.node, lease.model)
        speed = timings.prompt_tokens / timings.prompt_seconds
        known = self._prompts.get(key, speed)
        self._prompts[key] = known + _SHARE * (speed - known)
