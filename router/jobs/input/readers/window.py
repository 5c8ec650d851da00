"""A piece of a JSON text that moves through a file, and knows where it is."""

from __future__ import annotations

import codecs
import json
from typing import Any, BinaryIO

from router.errors import DatasetError
from router.jobs.input.readers.values import JsonReader, fault, skip_space

# A literal that is cut off is complained of this near to the end, or nearer.
_CUT_CHARACTERS = 16


class SlidingWindow:
    """Reads values one after the other; holds little more than the one it is at."""

    def __init__(self, file: BinaryIO, chunk_bytes: int) -> None:
        self._file = file
        self._chunk_bytes = chunk_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._ended = False
        self._text = ""
        self._at = 0  # what lies before was taken
        self._forgotten = 0
        self._line, self._column = 1, 1  # of the text's beginning
        self._measured = (0, 0)  # a place in the text, and the bytes before it
        self.reader = JsonReader()

    @property
    def taken(self) -> int:
        """Characters of the file that are behind us."""
        return self._forgotten + self._at

    def offset(self) -> int:
        """Return how many bytes were before here when the window was opened."""
        at, count = self._measured
        count += len(self._text[at : self._at].encode("utf-8", "surrogateescape"))
        self._measured = (self._at, count)
        return count

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            self._at = skip_space(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self) -> str:
        """Return the same, and go behind it."""
        found = self.peek()
        self._at += len(found)
        return found

    def place(self) -> tuple[int, int]:
        """Return line and column of where the window is."""
        return self._place_of(self._at)

    def wrong(self, message: str, at: int | None = None) -> DatasetError:
        """Make an error for here, or for a place in the text."""
        line, column = self._place_of(self._at if at is None else at)
        return DatasetError(message, line=line, column=column)

    def value(self, longest: int) -> tuple[Any, str]:
        """Take one value; with a complaint where it is too long.

        longest: characters that it may have; one of more than twice as many is not
                 read to its end
        Raises DatasetError where there is no value, or where it does not end.
        """
        self.peek()
        while True:
            try:
                value, end = self.reader.read(self._text, self._at)
            except json.JSONDecodeError as error:
                self._grow_or_raise(error, longest)
                continue
            except RecursionError:
                raise self.wrong("lists and objects are nested too deep") from None
            if end < len(self._text) or not self._grow(longest):
                complaint = _too_long(longest) if end - self._at > longest else ""
                self._at = end
                return value, complaint

    def _grow(self, longest: int) -> bool:
        """Read on, unless the value is far too long already."""
        if len(self._text) - self._at > max(2 * longest, self._chunk_bytes):
            raise self.wrong(_too_long(longest))
        return self._more()

    def _grow_or_raise(self, error: json.JSONDecodeError, longest: int) -> None:
        """Read on where the value may only be cut off."""
        cut = error.pos >= len(self._text) - _CUT_CHARACTERS or error.msg.startswith(
            "Unterminated string"
        )
        if error.pos - self._at > longest:
            raise self.wrong(_too_long(longest)) from None
        if not (cut and self._grow(longest)):
            raise self.wrong(fault(error), error.pos) from None

    def _more(self) -> bool:
        """Read on, twice as much as is held; forget what was taken."""
        if self._ended:
            return False
        self._line, self._column = self._place_of(self._at)
        self._measured = (0, self.offset())
        self._forgotten += self._at
        self._text = self._text[self._at :]
        self._at = 0
        raw = self._file.read(max(self._chunk_bytes, len(self._text)))
        self._ended = not raw
        self._text += self._decoder.decode(raw, self._ended)
        return True

    def _place_of(self, at: int) -> tuple[int, int]:
        newlines = self._text.count("\n", 0, at)
        if not newlines:
            return self._line, self._column + at
        return self._line + newlines, at - self._text.rfind("\n", 0, at)


def _too_long(longest: int) -> str:
    return f"a row is longer than {longest:,} characters (jobs.max_line_bytes)"
