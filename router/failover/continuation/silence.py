"""How long a stream may be silent before its node counts as dead; pure.

The prompt phase is not in it: a stream is watched from its first token on. What
may interrupt a healthy stream then is measured in that node's own tokens: a
context that is shifted and read again (2,000 to 4,000 tokens, at ten or more
times the speed of generation) or a batch of somebody else's prompt. 300 token
times cover both: 1 s on a fast GPU, 20 s on a laptop. The floor covers what does
not scale (a lost packet, a pause of the machine), the ceiling is configured.
"""

from __future__ import annotations

_TOKENS = 300
_FLOOR_SECONDS = 5.0


def longest_silence(tokens_per_second: float | None, ceiling_seconds: float) -> float:
    """Return seconds; the ceiling while the speed is not known."""
    if not tokens_per_second:
        return ceiling_seconds
    wanted = max(_FLOOR_SECONDS, _TOKENS / tokens_per_second)
    return min(ceiling_seconds, wanted)
