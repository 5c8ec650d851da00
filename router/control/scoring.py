"""Scores nodes: the weighted mean of their normalised readings; pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from router.model import Missing, Part, Score, Signal

# What a node counts of which nothing is known.
NEUTRAL = 0.5


def normalise(signal: Signal, reading: float) -> float:
    """Map a reading to 0 at `worst` up to 1 at `best`."""
    share = (reading - signal.worst) / (signal.best - signal.worst)
    return min(1.0, max(0.0, share))


def score(
    signals: Sequence[Signal],
    readings: Mapping[str, float],
    *,
    unasked: Collection[str] = (),
    trust: Mapping[str, float] | None = None,
) -> Score:
    """Score one node from its readings by signal.

    unasked: signals whose query failed; they are left out, whatever their `missing`
    trust:   by signal, from 1 (fresh) to 0 (too old: counts as neutral); default 1
    """
    trust = trust or {}
    parts = tuple(
        _part(
            signal,
            readings.get(signal.name),
            asked=signal.name not in unasked,
            trust=trust.get(signal.name, 1.0),
        )
        for signal in signals
    )
    return Score(_mean(parts), parts)


def _part(signal: Signal, reading: float | None, *, asked: bool, trust: float) -> Part:
    # PromQL divides by zero without an error: NaN and infinities say nothing.
    if reading is None or not math.isfinite(reading):
        worst = asked and signal.missing is Missing.WORST
        return Part(signal.name, None, 0.0 if worst else None, signal.weight)
    value = NEUTRAL + (normalise(signal, reading) - NEUTRAL) * trust
    return Part(signal.name, reading, value, signal.weight)


def _mean(parts: Sequence[Part]) -> float:
    counted = [(p.normalised, p.weight) for p in parts if p.normalised is not None]
    total = math.fsum(weight for _, weight in counted)
    if total <= 0:
        return NEUTRAL
    mean = math.fsum(value * weight for value, weight in counted) / total
    return min(1.0, max(0.0, mean))
