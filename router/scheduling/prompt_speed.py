"""How fast nodes read prompts, learned from replies; pure.

Ollama counts a cached prompt's tokens but not the time that they did not take, so a
reading far above what is known is a hit in the cache and says little.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_KEPT = 0.9  # of what was known, at each new reading
_LEAST_TOKENS = 32  # shorter prompts measure the clock
_CACHED_TIMES = 3.0  # readings this much above what is known: a prompt that was cached
_CACHED_WORTH = 0.02
# As many nodes and models as a large fleet has, at some 200 bytes each.
_MOST = 131_072


@dataclass(slots=True)
class _Speed:
    tokens: float = 0.0
    seconds: float = 0.0

    def add(self, tokens: float, seconds: float, worth: float) -> None:
        kept = 1 - (1 - _KEPT) * worth
        self.tokens = self.tokens * kept + worth * tokens
        self.seconds = self.seconds * kept + worth * seconds


class PromptSpeeds:
    """Tokens per second by node and model, a long prompt weighing more."""

    def __init__(self) -> None:
        self._speeds: OrderedDict[tuple[str, str], _Speed] = OrderedDict()

    def speed(self, node: str, model: str) -> float | None:
        """Return tokens per second; None until a reply told."""
        known = self._speeds.get((node, model))
        return known.tokens / known.seconds if known else None

    def learn(self, node: str, model: str, tokens: int, seconds: float) -> None:
        """Take what a reply says of its prompt; nothing where it is too short."""
        if tokens < _LEAST_TOKENS or seconds <= 0:
            return
        key = (node, model)
        known = self._speeds.get(key)
        if known is None:
            self._speeds[key] = _Speed(float(tokens), seconds)
            if len(self._speeds) > _MOST:
                self._speeds.popitem(last=False)
            return
        self._speeds.move_to_end(key)
        cached = tokens / seconds > _CACHED_TIMES * known.tokens / known.seconds
        known.add(tokens, seconds, _CACHED_WORTH if cached else 1.0)
