"""How long nodes take to load models, and whether a load pays; pure.

A load is an investment: the request that makes a node load waits for it, those after
it run sooner. What each request would have gained on a node that holds nothing is
added up, and the load is made when that exceeds its time: nobody can know how much
is still to come, and who waits until as much was lost never loses twice the least.
"""

from __future__ import annotations

from collections import OrderedDict

# Ollama's load_duration of a resident model is what looking it up takes: 20 to
# 120 ms on the machines that were measured; the smallest load took 300 ms.
COLD_LOAD_SECONDS = 0.25

# Until a node has shown better: a file at disk speed, and the engine's start.
_BYTES_PER_SECOND = 1e9
_START_SECONDS = 1.5
_SHARE = 0.3  # of a new reading
_MOST = 4096  # of nodes and models
_HALF_LIFE_SECONDS = 120.0  # of gains that were missed

Key = tuple[str, str]


def guess(size_bytes: float) -> float:
    """Return the seconds of a load on a node that showed none."""
    return _START_SECONDS + size_bytes / _BYTES_PER_SECOND


class LoadTimes:
    """Seconds of loads by node and model; a model not seen there as the others.

    memo: what was asked for since anything was learned: asked for by each decision
    """

    def __init__(self) -> None:
        self.memo: dict[Key, float] = {}
        self._seconds: OrderedDict[Key, float] = OrderedDict()
        self._factors: dict[str, float] = {}  # of a node's loads to the guess

    def learn(self, node: str, model: str, size_bytes: float, seconds: float) -> None:
        """Take in `load_duration` of a request that came first to a cold node."""
        known = self._seconds.pop((node, model), seconds)
        self._seconds[node, model] = known + _SHARE * (seconds - known)
        if len(self._seconds) > _MOST:
            self._seconds.popitem(last=False)
        factor = seconds / guess(size_bytes)
        before = self._factors.get(node, factor)
        self._factors[node] = before + _SHARE * (factor - before)
        self.memo.clear()

    def seconds(self, node: str, model: str, size_bytes: float) -> float:
        seconds = self._seconds.get((node, model))
        if seconds is None:
            seconds = self._factors.get(node, 1.0) * guess(size_bytes)
        if len(self.memo) < _MOST and size_bytes:
            self.memo[node, model] = seconds
        return seconds


class MissedGains:
    """Seconds that requests would have gained on cold nodes, by node and model.

    gains: with the time of the newest
    """

    def __init__(self) -> None:
        self.gains: dict[Key, tuple[float, float]] = {}

    def add(self, key: Key, seconds: float, now: float) -> None:
        self.gains[key] = (self.gain(key, now) + seconds, now)
        if len(self.gains) > _MOST:
            del self.gains[next(iter(self.gains))]

    def gain(self, key: Key, now: float) -> float:
        if key not in self.gains:
            return 0.0
        seconds, at = self.gains[key]
        return float(seconds * 0.5 ** ((now - at) / _HALF_LIFE_SECONDS))

    def pay(self, key: Key) -> None:
        """Forget them: the load is made."""
        self.gains.pop(key, None)
