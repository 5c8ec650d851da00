"""`tree`: a model merges texts in a tree while other rows still run.

`threshold` neighbouring rows make a group, as many groups one of the next level, up to
a single text. A group is merged as soon as it is complete. A dataset has the same
groups with the same keys in every run, and neighbouring rows stay together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from router.jobs.model import ItemResult
from router.jobs.reducers.kind import ReducerKind
from router.jobs.reducers.protocols import Merge, Partial, ReducerEffect, SeenIndices
from router.jobs.reducers.spec import Spec

DEFAULT_THRESHOLD = 8
_MOST_THRESHOLD = 1000
_LONGEST_PROMPT = 64 * 1024
SHOWN_CHARACTERS = 64 * 1024
_BETWEEN = "\n\n"

Place = tuple[int, int]  # level and number; rows are level 0


@dataclass(slots=True)
class _Group:
    """The texts of a group by position; None for a failed row."""

    size: int
    texts: dict[int, str | None] = field(default_factory=dict)

    def together(self) -> tuple[str, ...]:
        places = sorted(self.texts)
        return tuple(text for place in places if (text := self.texts[place]))


class Tree:
    """Merges texts; if a merge fails, its texts are joined by blank lines."""

    def __init__(self, threshold: int, total: int) -> None:
        self._threshold = threshold
        self._seen = SeenIndices(total)
        self._sizes = _sizes(threshold, total)
        self._groups: dict[Place, _Group] = {}
        self._asked: dict[str, tuple[Place, tuple[str, ...]]] = {}
        self._answers: dict[str, str | None] = {}  # None: the merge failed
        self._ready: dict[Place, str | None] = {}  # merged, and their parent is not

    def feed(self, index: int, result: ItemResult) -> tuple[ReducerEffect, ...]:
        if not self._seen.add(index):
            return ()
        text = None if result.error else result.text.strip()
        return tuple(self._put((0, index), text))

    def feed_merge(self, key: str, result: ItemResult) -> tuple[ReducerEffect, ...]:
        if key in self._answers:
            return ()
        text = result.text.strip()
        self._answers[key] = None if result.error or not text else text
        return tuple(self._merged(key)) if key in self._asked else ()

    def partial(self) -> Partial:
        places = sorted(self._ready, key=self._first_row)
        texts = [text for place in places if (text := self._ready[place])]
        value = _BETWEEN.join(texts)[:SHOWN_CHARACTERS]
        return Partial(value, sum(map(self._rows_below, places)))

    def output(self) -> object:
        return self._ready.get(self._root) or ""

    def finished(self) -> bool:
        return self._seen.total == 0 or self._root in self._ready

    @property
    def _root(self) -> Place:
        return len(self._sizes) - 1, 0

    def _put(self, place: Place, text: str | None) -> list[ReducerEffect]:
        """Take a text to its group, and a whole group to a model."""
        level, number = place
        if level:
            self._ready[place] = text
        if place == self._root:
            return []
        above = (level + 1, number // self._threshold)
        group = self._groups.setdefault(above, _Group(self._size(above)))
        group.texts[number % self._threshold] = text
        if len(group.texts) < group.size:
            return []
        del self._groups[above]
        texts = group.together()
        if len(texts) < 2:  # nothing to merge it with
            return self._lift(above, texts[0] if texts else None)
        key = _key(above)
        self._asked[key] = (above, texts)
        asked: list[ReducerEffect] = [Merge(key, *above, texts)]
        return asked + self._merged(key) if key in self._answers else asked

    def _merged(self, key: str) -> list[ReducerEffect]:
        place, texts = self._asked.pop(key)
        answer = self._answers[key]
        self._answers[key] = None  # it is known that it came; the text lives above
        if answer is None:
            answer = _BETWEEN.join(texts)
        return self._lift(place, answer)

    def _lift(self, place: Place, text: str | None) -> list[ReducerEffect]:
        """Put a group's text in the place of its parts."""
        level, number = place
        first = number * self._threshold
        for below in range(first, first + self._threshold):
            self._ready.pop((level - 1, below), None)
        return self._put(place, text)

    def _size(self, place: Place) -> int:
        level, number = place
        below = self._sizes[level - 1]
        return min(self._threshold, below - number * self._threshold)

    def _first_row(self, place: Place) -> int:
        level, number = place
        return number * int(self._threshold**level)

    def _rows_below(self, place: Place) -> int:
        level, number = place
        end = (number + 1) * int(self._threshold**level)
        return min(end, self._seen.total) - self._first_row(place)


def _key(place: Place) -> str:
    return f"merge-{place[0]}-{place[1]}"


FIRST_MERGE = _key((1, 0))


def _sizes(threshold: int, total: int) -> list[int]:
    """Give how many texts each level has, from the rows to the root."""
    sizes = [total]
    while len(sizes) < 2 or sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // threshold))
    return sizes


def threshold_of(spec: Spec) -> int:
    return spec.number("threshold", DEFAULT_THRESHOLD, 2, _MOST_THRESHOLD)


def tree(spec: Spec, total: int) -> Tree:
    threshold = threshold_of(spec)
    spec.text("prompt", "", _LONGEST_PROMPT)
    spec.close()
    return Tree(threshold, total)


KIND = ReducerKind(
    tree,
    "Merge into one",
    "The model merges answers, level by level, while others are still being made",
    fields=("threshold", "prompt"),
    wave=lambda spec, index: index // threshold_of(spec),
    first=lambda spec, index: index < threshold_of(spec),
)
