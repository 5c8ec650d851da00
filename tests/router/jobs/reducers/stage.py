"""Results as a job would hand them to a reducer, in any order, more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from router.jobs.model import ItemFault, ItemKind, ItemResult
from router.jobs.reducers import Merge, Reducer, ReducerEffect, SkipSamples


def result(text: str | None, key: str = "0", index: int = 0) -> ItemResult:
    """Give an answer, or with None a failure."""
    return ItemResult(
        key=key,
        kind=ItemKind.ROW,
        index=index,
        custom_id=key,
        status=200 if text is not None else 500,
        body=b"",
        text=text or "",
        node="n",
        error=None if text is not None else ItemFault("failed", "it failed"),
    )


def joined(merge: Merge) -> str | None:
    """Play the model: show what was merged."""
    return f"({' '.join(merge.texts)})"


@dataclass
class Run:
    """A job that feeds a reducer, and answers its merges when it likes."""

    reducer: Reducer
    answer: Callable[[Merge], str | None] = joined
    merges: dict[str, Merge] = field(default_factory=dict)
    settled: list[int] = field(default_factory=list)
    answered: dict[str, str | None] = field(default_factory=dict)

    def take(self, effects: Iterable[ReducerEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SkipSamples):
                self.settled.append(effect.group)
                continue
            known = self.merges.setdefault(effect.key, effect)
            assert known == effect, "a merge changed between two asks"

    def feed(self, index: int, text: str | None) -> None:
        self.take(self.reducer.feed(index, result(text, str(index), index)))

    def merge(self, key: str) -> None:
        self.answered[key] = self.answer(self.merges[key])
        self.take(self.reducer.feed_merge(key, result(self.answered[key], key)))

    @property
    def open(self) -> list[str]:
        return [key for key in self.merges if key not in self.answered]

    def output(self) -> Any:
        return self.reducer.output()

    def partial(self) -> Any:
        return self.reducer.partial()

    def finish(self) -> None:
        while self.open:
            self.merge(self.open[0])

    def state(self) -> tuple[object, ...]:
        reducer = self.reducer
        return reducer.partial(), reducer.output(), reducer.finished(), self.merges
