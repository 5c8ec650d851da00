"""`concat`: joins the answers in row order, up to the first missing one.

It keeps the end of the text only; the complete text is made of the results.
"""

from __future__ import annotations

from router.jobs.model import ItemResult
from router.jobs.reducers.kind import ReducerKind
from router.jobs.reducers.protocols import Partial, Rowwise
from router.jobs.reducers.spec import Spec

SHOWN_CHARACTERS = 64 * 1024
_LONGEST_SEPARATOR = 1000
SEPARATOR = "\n"


class Concat(Rowwise):
    """Joins answers; a failed row adds nothing, not even a separator."""

    def __init__(self, separator: str, total: int) -> None:
        super().__init__(total)
        self._separator = separator
        self._waiting: dict[int, str | None] = {}
        self._prefix = 0  # rows that are complete
        self._end = ""
        self._length = 0
        self._begun = False

    def take(self, index: int, result: ItemResult) -> None:
        self._waiting[index] = None if result.error else result.text
        pieces: list[str] = []
        while self._prefix in self._waiting:
            text = self._waiting.pop(self._prefix)
            self._prefix += 1
            if text is not None:
                pieces += [self._separator, text] if self._begun else [text]
                self._begun = True
        if pieces:
            added = "".join(pieces)
            self._length += len(added)
            self._end = (self._end + added)[-SHOWN_CHARACTERS:]

    def partial(self) -> Partial:
        return Partial(self._end, self._prefix, self._length - len(self._end))

    def output(self) -> None:
        return None


def concat(spec: Spec, total: int) -> Concat:
    separator = spec.text("separator", SEPARATOR, _LONGEST_SEPARATOR)
    spec.close()
    return Concat(separator, total)


# In a text that grows from its beginning, rows far behind can wait.
_BLOCK = 64
KIND = ReducerKind(
    concat,
    "Join in order",
    "One text, in the order of the rows",
    fields=("separator",),
    wave=lambda _, index: index // _BLOCK,
    first=lambda _, index: index == 0,
)
