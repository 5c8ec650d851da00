"""The whole text of a `concat` job as it grows, in order, in pieces that are bounded.

It is read from the results in the database, a page at a time: nothing of it is kept
here. Each piece has an id, and a reader that comes again with the last one it saw
(`Last-Event-ID`) gets what follows, not a character more or less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from router.jobs.model import ItemResult
from router.jobs.output import ANSWERED, pages
from router.jobs.store import results
from router.jobs.store.database import JobDatabase
from router.web.jobs.fields import FieldError

MOST_CHARACTERS = 64 * 1024
_PAGE = 100
_ID = re.compile(r"(\d{1,9})\.(\d{1,9})\.([01])", re.ASCII)


@dataclass(frozen=True, slots=True)
class TextPosition:
    """How far a reader is.

    row:    that comes next
    offset: characters of it, with what separates it, that were sent
    begun:  whether any row gave a text before
    """

    row: int = 0
    offset: int = 0
    begun: bool = False

    def __str__(self) -> str:
        return f"{self.row}.{self.offset}.{self.begun:d}"


def read_mark(given: str | None) -> TextPosition:
    """Read what `Last-Event-ID` says. Raises FieldError."""
    if not given:
        return TextPosition()
    found = _ID.fullmatch(given)
    if found is None:
        what = f"must be an id that this stream gave, got {given[:40]!r}"
        raise FieldError("Last-Event-ID", what)
    row, offset, begun = (int(part) for part in found.groups())
    return TextPosition(row, offset, bool(begun))


class JobText:
    """One reader's way through the text of a job."""

    def __init__(
        self, database: JobDatabase, job: str, separator: str, at: TextPosition
    ) -> None:
        self._database = database
        self._job = job
        self._separator = separator
        self._at = at

    def up_to(self, rows: int | None) -> Iterator[tuple[TextPosition, str]]:
        """Yield what is new of the first `rows` rows; None: of all. Raises StoreError.

        With each piece comes the mark to go on from behind it.
        """
        if rows is not None and self._at.row >= rows:
            return
        place = results.ResultCursor(self._at.row - 1, 2**62)
        for page in pages(self._database, self._job, ANSWERED, place, size=_PAGE):
            inside = [each for each in page if rows is None or each.index < rows]
            yield from self._gathered(inside)
            if rows is not None and (self._at.row >= rows or inside != page):
                break
        if rows is not None and self._at.row < rows:  # the last of them failed
            self._at = TextPosition(rows, 0, self._at.begun)

    def _gathered(
        self, page: Sequence[ItemResult]
    ) -> Iterator[tuple[TextPosition, str]]:
        """Put short texts together."""
        gathered, mark = "", self._at
        for result in page:
            for at, piece in self._pieces(result):
                if gathered and len(gathered) + len(piece) > MOST_CHARACTERS:
                    yield mark, gathered
                    gathered = ""
                gathered += piece
                mark = at
        if gathered:
            yield mark, gathered

    def _pieces(self, result: ItemResult) -> Iterator[tuple[TextPosition, str]]:
        row, at = result.index, self._at
        own = result.text.encode(errors="replace").decode()
        text = self._separator + own if at.begun else own
        offset = at.offset if at.row == row else 0
        while len(text) - offset > MOST_CHARACTERS:
            piece = text[offset : offset + MOST_CHARACTERS]
            offset += MOST_CHARACTERS
            self._at = TextPosition(row, offset, at.begun)
            yield self._at, piece
        self._at = TextPosition(row + 1, 0, begun=True)
        yield self._at, text[offset:]
