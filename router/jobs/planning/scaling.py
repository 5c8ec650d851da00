"""How a node's total speed depends on its streams, learned over the fleet; pure.

A job keeps every slot busy, so a node would only ever show its speed at one k. What
one node shows at two neighbouring k is therefore taken to hold for the others too;
and one node at a time looks at one stream less, or more, since on a real Ollama
three streams may bring more than four (S = 1, 1.21, 1.54, 1.24).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log

# A stream beside k others runs at 1 / (1 + 0.3 k): between llama.cpp's kernels
# (0.11) and Ollama end to end (0.67).
_SHARE_COST = 0.3
_TRUSTED = 300.0  # tokens that make a speed worth one k of distance
_PRIOR = 1.0  # comparisons that this is worth
_SEEN = 1  # replies of a node at one k before it is compared with another
_RECENT = 24  # replies of a node, before it is compared no more
_KEPT = 8  # replies that a node's speed at one k is the mean of
_TELLING = 32  # tokens of a reply that is compared; shorter ones show the moment
_COMPARED = 3  # comparisons before anything is concluded
_LEAST_SPREAD = 0.1
_SURE = 2.2  # standard errors: a wrong conclusion lasts for a while
_CLEAR = 2.0  # the same, to look no more: a look costs as much as it shows
_MARGIN = 0.03
_MOST = 40
_LONGEST_LOOK = 16  # replies of the node
# Replies of the fleet until what was looked at before is looked at again; each time
# twice as many: a look at less than the best costs what it shows.
_REST = 60
_LONGEST_REST = 10_000


@dataclass(slots=True)
class _Speed:
    """What a node showed at one k, a reply's weight being its length.

    at: the number of the node's reply that was the last to show it
    """

    tokens: float = 0.0
    seconds: float = 0.0
    count: int = 0
    at: int = 0

    def add(self, tokens: float, seconds: float, at: int) -> None:
        kept = 1.0 if self.count < _KEPT else 1 - 1 / _KEPT
        self.tokens = kept * self.tokens + tokens
        self.seconds = kept * self.seconds + seconds
        self.count += 1
        self.at = at

    @property
    def mean(self) -> float:
        return self.tokens / self.seconds


@dataclass(slots=True)
class _Step:
    """log of S(k + 1) / S(k): what was expected, then compared."""

    prior: float
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.count = min(_MOST, self.count + 1)
        before = value - self.mean
        self.mean += before / self.count
        self.squares += (before * (value - self.mean) - self.squares) / self.count

    @property
    def value(self) -> float:
        """Return the best guess."""
        return (_PRIOR * self.prior + self.count * self.mean) / (_PRIOR + self.count)

    @property
    def down(self) -> bool:
        """Say whether one stream more clearly brings less."""
        return self.count >= _COMPARED and self.mean < -max(
            _MARGIN, _SURE * self._doubt
        )

    @property
    def clear(self) -> bool:
        return self.count >= _COMPARED and abs(self.mean) > _CLEAR * self._doubt

    @property
    def _doubt(self) -> float:
        spread = max(_LEAST_SPREAD, self.squares**0.5)
        return float(spread / self.count**0.5) if self.count else 1.0


@dataclass(slots=True)
class _Node:
    replies: int = 0
    speeds: dict[int, _Speed] = field(default_factory=dict)

    def weight(self, streams: int) -> float:
        """Return how much a speed counts: a few tokens tell little."""
        return min(3.0, self.speeds[streams].tokens / _TRUSTED)


@dataclass(slots=True)
class Shape:
    """S(k) of one model over the fleet, and the look that is under way."""

    looking: str | None = None
    _target: int = 0
    _seen: int = 0
    _steps: dict[int, _Step] = field(default_factory=dict)
    _nodes: dict[str, _Node] = field(default_factory=dict)
    _replies: int = 0
    _looked_at: int = 0
    _rest: int = _REST

    def knows(self, node: str) -> bool:
        """Say whether the node ever ended anything."""
        return node in self._nodes

    def speed(self, node: str, streams: int) -> float | None:
        """Return tokens/s of each of so many streams; None if it showed too little."""
        known = self._nodes.get(node)
        if known is None or sum(s.tokens for s in known.speeds.values()) < _TELLING:
            return None
        k = min(known.speeds, key=lambda k: (abs(k - streams) - known.weight(k), -k))
        ratio = exp(self._log(streams) - self._log(k)) * k / streams
        return known.speeds[k].mean * ratio

    def learn(
        self, node: str, streams: int, tokens: float, seconds: float, ceiling: int
    ) -> None:
        """Take note of a reply that a node gave at so many streams."""
        known = self._nodes.setdefault(node, _Node())
        known.replies += 1
        self._replies += 1
        if tokens >= _TELLING:
            self._compare(known, streams, tokens / seconds)
        speed = known.speeds.setdefault(streams, _Speed())
        speed.add(tokens, seconds, known.replies)
        self._look(node, known, streams, ceiling)

    def _compare(self, known: _Node, streams: int, speed: float) -> None:
        for other in (streams - 1, streams + 1):
            seen = known.speeds.get(other)
            if seen and seen.count >= _SEEN and known.replies - seen.at < _RECENT:
                ratio = log(streams * speed / (other * seen.mean))
                step = self._step(min(streams, other))
                step.add(ratio if streams > other else -ratio)

    def best(self, node: str, ceiling: int) -> int:
        """Return how many streams of the node are worth having."""
        if node == self.looking:
            return min(ceiling, self._target)
        return self._best(ceiling)

    def _best(self, ceiling: int) -> int:
        while ceiling > 1 and self._step(ceiling - 1).down:
            ceiling -= 1
        return ceiling

    def _look(self, node: str, known: _Node, streams: int, ceiling: int) -> None:
        """Begin or end a look at one stream less or more."""
        if self.looking is None:
            seen = known.speeds[streams].count
            if seen >= _SEEN and streams == self._best(ceiling):
                target = self._unsure(streams, ceiling)
                if target:
                    self.looking, self._target, self._seen = node, target, 0
            return
        if node != self.looking:
            return
        self._seen += 1
        there = known.speeds.get(self._target)
        fresh = there and there.count >= _COMPARED and there.at > known.replies - 8
        if fresh or self._seen >= _LONGEST_LOOK:
            self.looking, self._looked_at = None, self._replies

    def _unsure(self, best: int, ceiling: int) -> int | None:
        """Return a neighbouring k that is worth a look."""
        if best > 1 and self._step(best - 1).count < _COMPARED:
            return best - 1
        if self._replies - self._looked_at < self._rest:
            return None
        self._rest = min(_LONGEST_REST, 2 * self._rest)
        if best < ceiling and not self._step(best).clear:
            return best + 1
        return best - 1 if best > 1 and not self._step(best - 1).clear else None

    def _step(self, streams: int) -> _Step:
        step = self._steps.get(streams)
        if step is None:
            step = self._steps[streams] = _Step(_guess(streams + 1) - _guess(streams))
        return step

    def _log(self, streams: int) -> float:
        """Return log S(k)."""
        return sum(self._step(k).value for k in range(1, streams))


def _guess(streams: int) -> float:
    return log(streams / (1 + _SHARE_COST * (streams - 1)))
