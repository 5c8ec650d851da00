"""`vote`: takes several samples of each row, and the most frequent answer.

A row is decided as soon as the missing samples cannot change its answer: the result is
the same as with all samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from router.errors import ReducerError
from router.jobs.model import ItemResult
from router.jobs.reducers.answers import MISSING, Path, path_of, value_at, word_of
from router.jobs.reducers.count import ranked
from router.jobs.reducers.kind import ReducerKind
from router.jobs.reducers.protocols import (
    Partial,
    ReducerEffect,
    SeenIndices,
    SkipSamples,
)
from router.jobs.reducers.spec import Spec

DEFAULT_SAMPLES = 5
_MOST_SAMPLES = 64
_LONGEST_FIELD = 500
_LONGEST_ANSWER = 4000
_SHOWN = 50


@dataclass(slots=True)
class _Answer:
    """votes for one answer; `text` is how its first sample wrote it."""

    votes: int
    sample: int
    text: str


@dataclass(slots=True)
class _Ballot:
    """The samples of one row; failed ones vote for nothing."""

    ran: int = 0
    answers: dict[str, _Answer] = field(default_factory=dict)

    def take(self, sample: int, text: str | None) -> None:
        self.ran += 1
        if text is None:
            return
        key = " ".join(text.split()).casefold().rstrip(".")
        found = self.answers.setdefault(key, _Answer(0, sample, text))
        found.votes += 1
        if sample < found.sample:
            found.sample, found.text = sample, text

    def winner(self) -> _Answer | None:
        """Return the answer with most votes; of equals that of the earliest sample."""
        answers = self.answers.values()
        return max(answers, key=lambda each: (each.votes, -each.sample), default=None)

    def decided(self, samples: int) -> bool:
        votes = sorted((each.votes for each in self.answers.values()), reverse=True)
        first, second, *_ = [*votes, 0, 0]
        left = samples - self.ran
        return left <= 0 or first - second > left


class Vote:
    """Takes votes; an item is a sample, with the index `row * samples + sample`."""

    def __init__(self, path: Path, samples: int, total: int) -> None:
        if total % samples:
            raise ReducerError(f"{total} items are no whole rows of {samples} samples")
        self._path = path
        self._samples = samples
        self._seen = SeenIndices(total)
        self._ballots: dict[int, _Ballot] = {}
        self._decided = SeenIndices(total // samples)

    def feed(self, index: int, result: ItemResult) -> tuple[ReducerEffect, ...]:
        if not self._seen.add(index):
            return ()
        row, sample = divmod(index, self._samples)
        ballot = self._ballots.setdefault(row, _Ballot())
        ballot.take(sample, self._said(result))
        if not ballot.decided(self._samples) or not self._decided.add(row):
            return ()
        return (SkipSamples(row),) if ballot.ran < self._samples else ()

    def _said(self, result: ItemResult) -> str | None:
        found = MISSING if result.error else value_at(result.text, self._path)
        word = None if found is MISSING else word_of(found)
        return None if word is None else word[:_LONGEST_ANSWER]

    def feed_merge(self, key: str, result: ItemResult) -> tuple[ReducerEffect, ...]:
        raise ValueError(f"merge {key!r} was not asked for: {result.key!r}")

    def partial(self) -> Partial:
        counts: dict[str, int] = {}
        for row, ballot in self._ballots.items():
            winner = ballot.winner()
            if winner and row in self._decided:
                text = winner.text[:100]
                counts[text] = counts.get(text, 0) + 1
        value = {
            "rows": self._decided.total,
            "decided": self._decided.count,
            "values": dict(ranked(counts)[:_SHOWN]),
        }
        return Partial(value, self._decided.count * self._samples)

    def output(self) -> object:
        """Return each row's answer, its votes and the number of samples that ran."""
        rows = [self._row(row) for row in sorted(self._ballots)]
        return {"rows": rows}

    def _row(self, row: int) -> dict[str, object]:
        ballot = self._ballots[row]
        winner = ballot.winner()
        return {
            "index": row,
            "answer": winner.text if winner else None,
            "votes": winner.votes if winner else 0,
            "samples": ballot.ran,
        }

    def finished(self) -> bool:
        return self._decided.all


def samples_of(spec: Spec) -> int:
    return spec.number("samples", DEFAULT_SAMPLES, 1, _MOST_SAMPLES)


def vote(spec: Spec, total: int) -> Vote:
    samples = samples_of(spec)
    path = path_of(spec.text("field", "", _LONGEST_FIELD))
    spec.close()
    return Vote(path, samples, total)


def _wave(spec: Spec, index: int) -> int:
    number = samples_of(spec)
    return int(index % number > number // 2)


KIND = ReducerKind(
    vote,
    "Vote",
    "Several answers for each row; the majority counts",
    fields=("samples", "field"),
    samples=samples_of,
    wave=_wave,
    first=lambda spec, index: index <= samples_of(spec) // 2,
)
