"""What the virtual fleets of benchmarks are given: traces, else synthetic requests.

The traces are not part of this project: `bench.jobs_virtual` takes their paths. Without
one, a synthetic workload with the same marginals is made, and said to be so.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

from simulator.virtual.node import Spec
from simulator.virtual.workload import Ask, read_azure

# Tokens/s of one stream of an 8B Q4 model, and of prompts.
MIXED_8 = (
    Spec("a100", 120, 4500),
    Spec("4090-a", 137, 7000),
    Spec("4090-b", 137, 7000),
    Spec("3090-a", 105, 3500),
    Spec("3090-b", 105, 3500),
    Spec("3060-a", 42, 1300),
    Spec("3060-b", 42, 1300),
    Spec("t4", 30, 900),
)
CPU = Spec("cpu", 8, 60)


class Items:
    """Where a job's items come from: ShareGPT's lengths, or made up alike."""

    def __init__(self, path: Path | None) -> None:
        self.name = f"ShareGPT lengths ({path.name})" if path else _MADE_UP_ITEMS
        self._lengths: list[Ask] = []
        if path:
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    prompt = int(row["num_prefill_tokens"])
                    tokens = int(row["num_decode_tokens"])
                    self._lengths.append(Ask(prompt, max(1, tokens)))

    def draw(self, count: int, seed: int) -> list[Ask]:
        rng = random.Random(seed)
        if self._lengths:
            return rng.sample(self._lengths, count)
        return [_item(rng) for _ in range(count)]


_MADE_UP_ITEMS = "synthetic items (marginals of ShareGPT; no trace was given)"
_MADE_UP_PEOPLE = "synthetic requests (marginals of Azure's; no trace was given)"


def _item(rng: random.Random) -> Ask:
    # Mean 2340 and 439; the answers are nearly even up to a limit of 1024.
    prompt = int(min(7500, rng.lognormvariate(7.3, 1.1)))
    return Ask(max(4, prompt), max(1, min(1024, int(rng.triangular(0, 1020, 300)))))


class People:
    """Interactive traffic: Azure's conversation trace, or made up alike."""

    def __init__(self, path: Path | None) -> None:
        self.name = f"Azure conversations ({path.name})" if path else _MADE_UP_PEOPLE
        self._asks = read_azure(path) if path else []

    def draw(self, seconds: float, rate: float, seed: int) -> list[Ask]:
        """Return requests at `rate` a second on the mean, for so long.

        The trace is stretched in time, from a start that the seed gives.
        """
        rng = random.Random(seed)
        if not self._asks:
            return _made_up(rng, seconds, rate)
        asks = self._asks
        stretch = len(asks) / asks[-1].at / rate
        start = rng.randrange(len(asks))
        drawn, offset = [], asks[start].at
        for ask in (*asks[start:], *asks[:start]):
            at = (ask.at - offset) % (asks[-1].at + 1e-9) * stretch
            if at < seconds:
                drawn.append(Ask(ask.prompt, ask.tokens, at))
        return sorted(drawn, key=lambda each: each.at)


def _made_up(rng: random.Random, seconds: float, rate: float) -> list[Ask]:
    """Mean 1155 and 211 tokens, median 1020 and 129."""
    asks, at = [], rng.expovariate(rate)
    while at < seconds:
        prompt = min(4200, int(rng.lognormvariate(6.7, 0.85)))
        tokens = min(1000, int(rng.lognormvariate(4.86, 0.99)))
        asks.append(Ask(max(4, prompt), max(1, tokens), at))
        at += rng.expovariate(rate)
    return asks


def mean_tokens(asks: Sequence[Ask]) -> float:
    return sum(ask.tokens for ask in asks) / len(asks)
