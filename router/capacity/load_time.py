"""How long nodes take to load models; pure."""

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

Key = tuple[str, str]


def guess(size_bytes: float) -> float:
    """Return the seconds of a load on a node that showed none."""
    return _START_SECONDS + size_bytes / _BYTES_PER_SECOND


class LoadTimes:
    """Seconds of loads by node and model; a model not seen there as the others."""

    def __init__(self) -> None:
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

    def seconds(self, node: str, model: str, size_bytes: float) -> float:
        seconds = self._seconds.get((node, model))
        if seconds is None:
            seconds = self._factors.get(node, 1.0) * guess(size_bytes)
        return seconds
