"""How long prompts and answers will be, learned from replies; pure.

An answer's length is learned as a mean and a mean of squares, in cells that lie within
each other: all of a model's answers, those of one shape, of one size of prompt, and of
a narrower size. A cell that saw little says what the wider one says. Nothing is taken
from any trace: a cell's own answers outweigh the wider cell after eight of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log2
from typing import TypeVar

from router.model import Timings
from router.scheduling.accuracy import Deviations
from router.scheduling.request import FIRST_GUESS, Traits, Work

K = TypeVar("K")
V = TypeVar("V")

_KEPT = 0.99  # of what a cell was worth, at each new answer: the last hundred count
_SHRINK = 8.0  # answers that the wider cell's word is worth
_FIRST_SHRINK = 4.0  # the same of the first guess
_FINE = 4  # narrow sizes of prompt in each doubling
_BYTES_PER_TOKEN = 4.0  # until replies tell
_LEAST_BYTES = 64  # a shorter prompt is mostly its template
_RATIO_KEPT = 0.95
_MOST_CELLS = 16_384
_MOST_MODELS = 4096

_Cell = tuple[str, str, int]


@dataclass(slots=True)
class _Moments:
    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def add(self, tokens: float) -> None:
        self.weight = self.weight * _KEPT + 1
        self.total = self.total * _KEPT + tokens
        self.squares = self.squares * _KEPT + tokens * tokens


@dataclass(slots=True)
class _Ratio:
    """Tokens of prompts over their bytes."""

    tokens: float = 0.0
    size: float = 0.0

    def add(self, tokens: float, size: float) -> None:
        self.tokens = self.tokens * _RATIO_KEPT + tokens
        self.size = self.size * _RATIO_KEPT + size


class AnswerPrediction:
    """Learns and predicts; one for the router."""

    def __init__(self) -> None:
        self.accuracy = Deviations()
        self._cells: OrderedDict[_Cell, _Moments] = OrderedDict()
        self._ratios: OrderedDict[str, _Ratio] = OrderedDict()

    def work(self, model: str, traits: Traits) -> Work:
        """Return what a request is expected to be."""
        prompt = self.prompt_tokens(model, traits.prompt_bytes)
        mean, squares = FIRST_GUESS, 2.0 * FIRST_GUESS * FIRST_GUESS
        shrink = _FIRST_SHRINK
        for key in _cells(model, traits.shape, prompt):
            cell = self._cells.get(key)
            if cell is not None:
                worth = shrink + cell.weight
                mean = (shrink * mean + cell.total) / worth
                squares = (shrink * squares + cell.squares) / worth
            shrink = _SHRINK
        most = traits.most_tokens
        if most is not None and most > 0:
            mean, squares = min(mean, most), min(squares, float(most * most))
        return Work(prompt, mean, squares)

    def mean(self, model: str) -> float:
        """Return the mean of all the model's answers of late."""
        cell = self._cells.get((model, "", _ALL))
        if cell is None:
            return FIRST_GUESS
        worth = _FIRST_SHRINK + cell.weight
        return (_FIRST_SHRINK * FIRST_GUESS + cell.total) / worth

    def prompt_tokens(self, model: str, size: int) -> float:
        """Return the tokens of a prompt of so many bytes."""
        ratio = self._ratios.get(model)
        if ratio is None or not ratio.tokens:
            return size / _BYTES_PER_TOKEN
        return size * ratio.tokens / ratio.size

    def learn(self, model: str, traits: Traits, work: Work, timings: Timings) -> None:
        """Take note of an answer that ended by itself; `work` was expected of it."""
        tokens = timings.generated_tokens
        if tokens <= 0:
            return
        size = traits.prompt_bytes
        if timings.prompt_tokens and size >= _LEAST_BYTES:
            ratio = _touch(self._ratios, model, _Ratio, _MOST_MODELS)
            ratio.add(timings.prompt_tokens, size)
        self.accuracy.add(model, work.tokens, tokens)
        for key in _cells(model, traits.shape, work.prompt):
            _touch(self._cells, key, _Moments, _MOST_CELLS).add(tokens)


_ALL = -1  # a size that no prompt has


def _cells(model: str, shape: str, prompt: float) -> Iterator[_Cell]:
    """Yield the cells of a request, the widest first."""
    yield model, "", _ALL
    if shape:
        yield model, shape, _ALL
    if prompt > 0:
        size = log2(prompt + 1)
        yield model, shape, int(size) * 1000
        yield model, shape, int(size * _FINE) * 1000 + 1


def _touch(kept: OrderedDict[K, V], key: K, first: Callable[[], V], most: int) -> V:
    """Return what is kept under the key, and forget what was not used for longest."""
    value = kept.get(key)
    if value is None:
        value = kept[key] = first()
        if len(kept) > most:
            kept.popitem(last=False)
    else:
        kept.move_to_end(key)
    return value
