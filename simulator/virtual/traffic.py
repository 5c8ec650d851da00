"""Requests over time for the scheduling benchmark: a trace, or made up in a shape.

Made-up shapes are there so that nothing is fitted to one trace. A load is a share of
what the fleet does at most with all its slots kept busy by such requests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

from simulator.virtual.node import Scaling, Spec
from simulator.virtual.saturation import anonymous, rates
from simulator.virtual.workload import Ask, read_azure

_MADE_UP = 20_000
_SAMPLE = 3000
_LONGEST_PROMPT, _LONGEST_ANSWER = 8000, 4000

# Mean and spread (sigma of the logarithm) of prompts and answers, in tokens, and how
# many times as many requests come in a burst of some seconds as in a lull.
SHAPES = {
    "chat": ((1100, 0.9), (210, 0.95), (1.0,)),
    "code": ((2050, 0.9), (28, 0.9), (0.3, 0.6, 1, 2, 4)),
    "long": ((600, 1.0), (400, 1.1), (1.0,)),
    "bursts": ((1100, 0.9), (210, 0.95), (0.2, 0.5, 1, 1, 2.5)),
}
_BURST_SECONDS = 15.0  # at a rate of one request a second


class Traffic:
    """Requests in the order in which they come, at some rate."""

    def __init__(self, name: str, asks: Sequence[Ask]) -> None:
        if not asks:
            raise ValueError(f"{name}: there is no request in it")
        self.name = name
        self._asks = asks
        self._span = asks[-1].at + 1e-9

    @classmethod
    def of(cls, source: str) -> Traffic:
        """Read a trace in Azure's format, or make one of `SHAPES`."""
        if source in CONVERSATIONS:
            return Sessions(source)
        if source in SHAPES:
            return cls(source, list(_made_up(source, random.Random(source))))
        return cls(Path(source).stem, read_azure(Path(source)))

    @property
    def rate(self) -> float:
        """Return requests a second, as they came."""
        return len(self._asks) / self._span

    def saturation(self, specs: Sequence[Spec], scaling: Scaling) -> float:
        """Return requests/s at which every slot of the fleet is busy."""
        rng = random.Random(1)
        some = tuple(rng.sample(self._asks, min(_SAMPLE, len(self._asks))))
        return sum(rates(anonymous(each), scaling, some)[-1] for each in specs)

    def draw(self, rate: float, count: int, seed: int) -> list[Ask]:
        """Return so many requests at a rate of so many a second.

        Each seed begins elsewhere. An odd one deals the lengths out anew, so that
        arrivals and lengths do not go together as they did.
        """
        rng = random.Random(seed)
        asks, start = self._asks, rng.randrange(len(self._asks))
        some = [asks[(start + number) % len(asks)] for number in range(count)]
        times = sorted(
            (each.at - asks[start].at) % self._span + number // len(asks) * self._span
            for number, each in enumerate(some)
        )
        if seed % 2:
            rng.shuffle(some)
        stretch = len(asks) / self._span / rate
        return [
            replace(each, at=at * stretch) for each, at in zip(some, times, strict=True)
        ]


def _made_up(shape: str, rng: random.Random) -> Iterator[Ask]:
    (prompt, prompt_spread), (answer, answer_spread), bursts = SHAPES[shape]
    at = until = 0.0
    rate = 1.0
    for _ in range(_MADE_UP):
        if at >= until:
            rate = rng.choice(bursts)
            until = at + rng.expovariate(1 / _BURST_SECONDS)
        at += rng.expovariate(rate)
        read = _tokens(rng, prompt, prompt_spread, _LONGEST_PROMPT)
        written = _tokens(rng, answer, answer_spread, _LONGEST_ANSWER)
        yield Ask(max(4, read), written, at)


@dataclass(frozen=True, slots=True)
class Conversations:
    """Requests that go on with what was said before; means, and spreads as above.

    turns:  of one conversation, on the mean
    said:   tokens that are new in each prompt; answer: of an answer
    pause:  seconds from one answer to the next request
    """

    turns: float
    said: tuple[float, float]
    answer: tuple[float, float]
    pause: tuple[float, float]


CONVERSATIONS = {
    "sessions": Conversations(5, (150, 1.0), (210, 0.95), (25, 0.8)),
    "agents": Conversations(8, (400, 1.0), (80, 0.9), (3, 1.0)),
}
_MOST_TURNS = 30
_READ_ALONG = 50.0  # tokens of the answer in a second
# What conversations begin with: one of some texts, by their tokens.
_HEADS, _HEAD_TOKENS, _MOST_HEAD = 8, 400, 2000


class Sessions(Traffic):
    """Conversations: another rate means more of them, not shorter pauses."""

    def __init__(self, name: str) -> None:
        self._shape = shape = CONVERSATIONS[name]
        asks = _sessions(shape, random.Random(name), 1 / shape.turns, _MADE_UP)
        super().__init__(name, asks)
        self._turns = len(asks) / sum(not ask.turn for ask in asks)

    def draw(self, rate: float, count: int, seed: int) -> list[Ask]:
        return _sessions(self._shape, random.Random(seed), rate / self._turns, count)


def _sessions(
    shape: Conversations, rng: random.Random, rate: float, count: int
) -> list[Ask]:
    """Return so many requests; so many conversations begin in a second."""
    asks: list[Ask] = []
    at = 0.0
    while len(asks) < 1.2 * count:
        at += rng.expovariate(rate)
        asks.extend(_conversation(shape, rng, at, len(asks) + 1))
    return sorted(asks, key=lambda ask: ask.at)[:count]


def _conversation(
    shape: Conversations, rng: random.Random, at: float, number: int
) -> Iterator[Ask]:
    head = rng.randrange(_HEADS)
    begin = _tokens(random.Random(head), _HEAD_TOKENS, 1.0, _MOST_HEAD)
    turns = min(_MOST_TURNS, 1 + int(rng.expovariate(1 / (shape.turns - 0.5))))
    pause, spread = shape.pause
    old = 0
    for turn in range(turns):
        prompt = (old or begin) + _tokens(rng, *shape.said, _LONGEST_PROMPT)
        written = _tokens(rng, *shape.answer, _LONGEST_ANSWER)
        if prompt > _LONGEST_PROMPT:
            return
        yield Ask(
            prompt,
            written,
            at,
            session=number,
            turn=turn,
            old=old,
            head=(head + 1, begin),
        )
        old = prompt + written
        reads = rng.lognormvariate(log(pause) - spread * spread / 2, spread)
        at += written / _READ_ALONG + reads


def _tokens(rng: random.Random, mean: float, spread: float, most: int) -> int:
    drawn = rng.lognormvariate(log(mean) - spread * spread / 2, spread)
    return max(1, min(most, int(drawn)))
