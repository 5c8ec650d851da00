"""Predicts the length of answers from the answers so far; pure.

An estimate starts from the mean of the job. The item's initial weight (its own limit,
what was known of its model) and the size of its prompt are used only once they have
predicted later answers better than that mean. On ShareGPT the size of the prompt
predicts nothing (correlation 0.04), and an order by it is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import log2
from typing import TypeVar

from router.jobs.model import Pending
from router.runtime.recent import Recent

FIRST_GUESS = 256.0  # tokens of an answer of which nothing is known at all

_PRIOR = 4.0  # answers that the first guess counts for
_BYTES_PER_TOKEN = 4.0
_SHRINK = 8.0  # answers of one size before it counts as much as the mean
_PROOF = 16  # answers before a trait may be believed
_SURE = 2.0  # standard errors
_STEPS = 4  # of the histogram, for each doubling
_LOWEST, _HIGHEST = -6 * _STEPS, 5 * _STEPS
# An answer longer than all that were seen: it may end soon, or never.
_LINGERS = 0.25
_FADE = 0.99  # of what the weights were worth, at each answer
_MOST_JOBS = 1024
_MOST_MODELS = 1024

K = TypeVar("K")
T = TypeVar("T")


@dataclass(slots=True)
class Mean:
    """Answers counted and their tokens."""

    count: float = 0.0
    tokens: float = 0.0

    def add(self, tokens: float) -> None:
        self.count += 1
        self.tokens += tokens

    def near(self, prior: float, weight: float) -> float:
        """Return the mean with a prior that counts as so many answers."""
        return (prior * weight + self.tokens) / (weight + self.count)


@dataclass(slots=True)
class Trial:
    """Compares a way to predict with the mean: the squared error that it saves."""

    count: int = 0
    saved: float = 0.0
    squares: float = 0.0

    def add(self, saved: float) -> None:
        self.count += 1
        self.saved += saved
        self.squares += saved * saved

    @property
    def proven(self) -> bool:
        if self.count < _PROOF or self.saved <= 0:
            return False
        mean = self.saved / self.count
        variance = max(0.0, self.squares / self.count - mean * mean)
        return bool(mean > _SURE * (variance / self.count) ** 0.5)


@dataclass(slots=True)
class Sizes:
    """Means by size of the prompt, a class for each doubling."""

    means: dict[int, Mean] = field(default_factory=dict)

    def expected(self, prompt: float, mean: float) -> float:
        seen = self.means.get(_class(prompt))
        return seen.near(mean, _SHRINK) if seen else mean

    def add(self, prompt: float, tokens: float) -> None:
        self.means.setdefault(_class(prompt), Mean()).add(tokens)


class Dispersion:
    """A histogram of the ratios of actual to expected lengths."""

    def __init__(self, counts: Mapping[int, float] | None = None) -> None:
        self._counts = dict(counts or _exponential())
        self._above: list[tuple[float, float]] | None = None

    @property
    def counts(self) -> Mapping[int, float]:
        return self._counts

    def add(self, ratio: float) -> None:
        step = _step(ratio)
        self._counts[step] = self._counts.get(step, 0.0) + 1
        self._above = None

    def beyond(self, ratio: float) -> float:
        """Return the expected rest of an answer that has reached `ratio`."""
        if self._above is None:
            self._above = self._sums()
        start = _LOWEST if ratio <= 0 else _step(ratio) + 1
        count, total = self._above[min(start, _HIGHEST + 1) - _LOWEST]
        if count <= 0:
            return _LINGERS * ratio
        return max(_LINGERS * ratio / _STEPS, total / count - ratio)

    def _sums(self) -> list[tuple[float, float]]:
        """For each step: the count and the sum of what lies there and above."""
        steps = range(_HIGHEST, _LOWEST - 1, -1)
        counts = [self._counts.get(step, 0.0) for step in steps]
        totals = [n * _middle(s) for s, n in zip(steps, counts, strict=True)]
        sums = list(zip(accumulate(counts), accumulate(totals), strict=True))
        return [*reversed(sums), (0.0, 0.0)]


@dataclass(slots=True)
class _Job:
    """Statistics of one job's answers from one model."""

    answers: Mean = field(default_factory=Mean)
    weights: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    by_weight: Trial = field(default_factory=Trial)
    by_size: Trial = field(default_factory=Trial)
    spread: Dispersion = field(default_factory=Dispersion)

    def expected(self, item: Pending) -> float:
        if not self.answers.count:
            return item.weight
        trial = max((self.by_weight, self.by_size), key=lambda each: each.saved)
        if not trial.proven:
            return self._mean(item)
        return self._weighed(item) if trial is self.by_weight else self._sized(item)

    def learn(self, item: Pending, tokens: float) -> None:
        mean = self._mean(item)
        missed = (mean - tokens) ** 2
        self.by_weight.add(missed - (self._weighed(item) - tokens) ** 2)
        self.by_size.add(missed - (self._sized(item) - tokens) ** 2)
        self.spread.add(tokens / max(1.0, self.expected(item)))
        self.answers.add(tokens)
        self.weights += item.weight
        self.sizes.add(item.prompt, tokens)

    def _mean(self, item: Pending) -> float:
        weight = self.weights / self.answers.count if self.weights else item.weight
        return self.answers.near(weight, _PRIOR)

    def _weighed(self, item: Pending) -> float:
        if not self.weights:
            return item.weight
        scale = self.answers.tokens / self.weights
        share = self.answers.count / (self.answers.count + _PRIOR)
        return item.weight * (1 + share * (scale - 1))

    def _sized(self, item: Pending) -> float:
        return self.sizes.expected(item.prompt, self._mean(item))


@dataclass(slots=True)
class _Model:
    """Statistics of one model's answers in all jobs."""

    answers: Mean = field(default_factory=Mean)
    sizes: Sizes = field(default_factory=Sizes)
    by_size: Trial = field(default_factory=Trial)
    _weights: float = _PRIOR * FIRST_GUESS
    _tokens: float = _PRIOR * FIRST_GUESS

    @property
    def scale(self) -> float:
        return self._tokens / self._weights

    def weigh(self, weight: float, tokens: float) -> None:
        self._weights = self._weights * _FADE + weight
        self._tokens = self._tokens * _FADE + tokens

    def expected(self, prompt: float) -> float:
        mean = self.answers.near(FIRST_GUESS, _PRIOR)
        return self.sizes.expected(prompt, mean) if self.by_size.proven else mean

    def learn(self, prompt: float, tokens: float) -> None:
        mean = self.answers.near(FIRST_GUESS, _PRIOR)
        sized = self.sizes.expected(prompt, mean)
        self.by_size.add((mean - tokens) ** 2 - (sized - tokens) ** 2)
        self.answers.add(tokens)
        self.sizes.add(prompt, tokens)


class LengthPredictor:
    """Predicts the length of answers in tokens."""

    def __init__(self) -> None:
        self._models: Recent[str, _Model] = Recent(_MOST_MODELS)
        self._jobs: Recent[tuple[str, str], _Job] = Recent(_MOST_JOBS)

    def predict(
        self, model: str, prompt_bytes: int, most_tokens: int | None = None
    ) -> float:
        """Return the expected tokens of a new item: its weight.

        most_tokens: the request's own limit
        """
        seen = self._models.get(model)
        prompt = prompt_bytes / _BYTES_PER_TOKEN
        tokens = seen.expected(prompt) if seen else FIRST_GUESS
        return max(1.0, min(tokens, most_tokens) if most_tokens else tokens)

    def expected(self, item: Pending) -> float:
        """Return the expected tokens of an item, from its job's answers so far."""
        job = self._jobs.get((item.job, item.model))
        return max(1.0, job.expected(item) if job else item.weight)

    def scale(self, model: str) -> float:
        """Return the recent mean of tokens for each unit of weight."""
        seen = self._models.get(model)
        return seen.scale if seen else 1.0

    def remaining(self, item: Pending, produced: float) -> float:
        """Return the tokens yet to come of an answer that has `produced` some."""
        expected = self.expected(item)
        job = self._jobs.get((item.job, item.model))
        spread = job.spread if job else _UNSEEN
        return expected * spread.beyond(produced / expected)

    def learn(self, item: Pending, generated_tokens: int) -> None:
        """Learn from a complete answer."""
        job = _touch(self._jobs, (item.job, item.model), _Job)
        job.learn(item, generated_tokens)
        model = _touch(self._models, item.model, _Model)
        model.learn(item.prompt, generated_tokens)
        model.weigh(item.weight, generated_tokens)

    def state(self) -> dict[str, object]:
        """Return the state to store over a restart, as JSON values."""
        return {
            name: {
                "count": model.answers.count,
                "tokens": model.answers.tokens,
                "sizes": {
                    str(size): [mean.count, mean.tokens]
                    for size, mean in model.sizes.means.items()
                },
                "trial": [
                    model.by_size.count,
                    model.by_size.saved,
                    model.by_size.squares,
                ],
            }
            for name, model in self._models.items()
        }

    def restore(self, state: Mapping[str, Mapping[str, object]]) -> None:
        """Restore the result of `state`. Raises KeyError, TypeError, ValueError."""
        models = {name: _model(kept) for name, kept in state.items()}
        self._models.clear()
        self._models.update(models)


def _model(kept: Mapping[str, object]) -> _Model:
    count, saved, squares = _numbers(kept["trial"])
    sizes = kept["sizes"]
    if not isinstance(sizes, Mapping):
        raise TypeError(f"sizes must be a mapping, got {sizes!r}")
    means = {int(size): Mean(*_numbers(mean)) for size, mean in sizes.items()}
    return _Model(
        Mean(*_numbers([kept["count"], kept["tokens"]])),
        Sizes(means),
        Trial(int(count), saved, squares),
    )


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list):
        raise TypeError(f"must be a list of numbers, got {values!r}")
    return [float(value) for value in values]


def _touch(kept: Recent[K, T], key: K, first: Callable[[], T]) -> T:
    """Return what is kept under the key, which is now the last to be forgotten."""
    value = kept.get(key)
    if value is None:  # made only where it is wanted: it takes longer than the rest
        value = first()
    kept[key] = value
    return value


def _class(prompt: float) -> int:
    return int(log2(prompt + 1))


def _step(ratio: float) -> int:
    if ratio <= 0:
        return _LOWEST
    return max(_LOWEST, min(_HIGHEST, round(_STEPS * log2(ratio))))


def _middle(step: int) -> float:
    return float(2 ** (step / _STEPS))


def _exponential() -> dict[int, float]:
    """The spread of lengths of which only the mean is known."""
    steps = range(_LOWEST, _HIGHEST + 1)
    ends = [2 ** (-_middle(step) * 1.4427) for step in steps]
    starts = [1.0, *ends[:-1]]
    return {
        step: _PRIOR * (start - end)
        for step, start, end in zip(steps, starts, ends, strict=True)
        if start - end > 1e-6
    }


_UNSEEN = Dispersion()
