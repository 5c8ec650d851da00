"""What requests felt of a run: quantiles of seconds, and how many were served well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.virtual.routed import Reply

# A reply is good whose first token comes in 2 s, and then ten a second.
FIRST_TOKEN_SECONDS, TOKEN_SECONDS = 2.0, 0.1


@dataclass(frozen=True, slots=True)
class Figures:
    """What requests felt: seconds, and shares of all that came."""

    p50: float
    p95: float
    p99: float
    first_p50: float
    first_p99: float
    good: float
    failed: float

    @classmethod
    def of(cls, replies: Sequence[Reply]) -> Figures:
        whole = [each for each in replies if not each.failure]
        seconds = sorted(each.ended_at - each.ask.at for each in whole)
        first = sorted(each.first_at - each.ask.at for each in whole)
        return cls(
            p50=quantile(seconds, 0.5),
            p95=quantile(seconds, 0.95),
            p99=quantile(seconds, 0.99),
            first_p50=quantile(first, 0.5),
            first_p99=quantile(first, 0.99),
            good=sum(map(_good, whole)) / len(replies),
            failed=1 - len(whole) / len(replies),
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values; NaN where there is none."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _good(reply: Reply) -> bool:
    first = reply.first_at - reply.ask.at
    each = (reply.ended_at - reply.first_at) / max(1, reply.ask.tokens - 1)
    return first <= FIRST_TOKEN_SECONDS and each <= TOKEN_SECONDS
