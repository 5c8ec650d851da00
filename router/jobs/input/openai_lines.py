"""Reads OpenAI's batch files line by line; faults name line and column.

Memory is bounded: one line at a time, and a number for each earlier line. A hostile
line takes long to read, so this runs in the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from router.errors import DatasetError
from router.jobs.input.readers.text import TextFile, TextLine, damage, lines

_MOST_ID_CHARACTERS = 512
_MOST_VALUES = 2_000_000
# Finds the id in a line that is not JSON, to name it in the error.
_ID = re.compile(r'"custom_id"\s*:\s*("(?:[^"\\]|\\.){0,512}")')


class LineError(Exception):
    """A line that is not a valid request; `column` counts characters from 1."""

    def __init__(
        self, message: str, column: int | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.column = column
        self.param = param


@dataclass(frozen=True, slots=True)
class Request:
    """One line's request.

    place: byte at which its line begins, if the file can be sought
    most:  its own limit of the answer's tokens
    """

    index: int
    line: int
    place: int
    custom_id: str
    model: str
    body: bytes
    most: int | None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be run; other lines run."""

    index: int
    line: int
    custom_id: str
    error: LineError


class Requests:
    """Reads lines as requests of one endpoint."""

    def __init__(self, endpoint: str, longest: int) -> None:
        self._endpoint = endpoint
        self._longest = longest
        # Hashes instead of texts: a million ids must fit into memory.
        self._seen: set[int] = set()

    def read(self, opened: TextFile) -> Iterator[Request | BadLine]:
        """Yield each line that is not blank. Raises DatasetError."""
        index = 0
        for line in lines(opened.file, self._longest, seekable=opened.seekable):
            if line.fault or line.text.strip():
                if not index and line.text.lstrip().startswith("["):
                    raise DatasetError(
                        "the file is a JSON list; write each request on a line of its"
                        " own, without brackets and commas (JSONL)",
                        line=line.number,
                    )
                yield self._read(index, line)
                index += 1

    def at(self, opened: TextFile, place: int) -> bytes:
        """Return the body of the request whose line begins at a byte."""
        opened.file.seek(place)
        line = next(lines(opened.file, self._longest, seekable=True))
        fields = parse(line, self._longest)
        return orjson.dumps(fields["body"])

    def _read(self, index: int, line: TextLine) -> Request | BadLine:
        custom_id = ""
        try:
            fields = parse(line, self._longest)
            found = fields.get("custom_id")
            custom_id = found if isinstance(found, str) else ""
            self._check_id(found)
            return self._request(index, line, custom_id, fields)
        except LineError as error:
            if not custom_id:
                custom_id = _id_in(line.text)
            return BadLine(index, line.number, custom_id[:_MOST_ID_CHARACTERS], error)

    def _check_id(self, custom_id: object) -> None:
        if not isinstance(custom_id, str) or not custom_id:
            raise _wrong("custom_id", "must be a text that is not empty", custom_id)
        if len(custom_id) > _MOST_ID_CHARACTERS:
            raise LineError(
                f"custom_id: at most {_MOST_ID_CHARACTERS} characters",
                None,
                "custom_id",
            )
        number = hash(custom_id)
        if number in self._seen:
            raise _wrong("custom_id", "must be unique in the file", custom_id)
        self._seen.add(number)

    def _request(
        self, index: int, line: TextLine, custom_id: str, fields: Mapping[str, Any]
    ) -> Request:
        if fields.get("method") != "POST":
            raise _wrong("method", "must be 'POST'", fields.get("method"))
        if fields.get("url") != self._endpoint:
            what = f"must be the job's {self._endpoint!r}"
            raise _wrong("url", what, fields.get("url"))
        body = fields.get("body")
        if not isinstance(body, dict):
            raise _wrong("body", "must be an object", body)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise _wrong("body.model", "must be a text that is not empty", model)
        if body.get("stream"):
            raise _wrong("body.stream", "must not be asked for in a job", True)
        most = most_tokens(body)
        data = orjson.dumps(body)
        return Request(index, line.number, line.offset, custom_id, model, data, most)


def parse(line: TextLine, longest: int) -> dict[str, Any]:
    """Read one line's JSON object. Raises LineError with the column."""
    if line.fault:
        raise LineError(f"longer than {longest} bytes (jobs.max_line_bytes)")
    text = line.text
    if line.damaged:
        place = next(n for n, letter in enumerate(text) if damage(letter))
        raise LineError(damage(text[place]).partition(";")[0], place + 1)
    if sum(map(text.count, "[{,")) > _MOST_VALUES:
        raise LineError(f"more than {_MOST_VALUES:,} values")
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise LineError("not JSON: it cannot be read here", error.pos + 1) from error
    if not isinstance(fields, dict):
        raise LineError(f"must be a JSON object, got {type(fields).__name__}", 1)
    return fields


def _id_in(text: str) -> str:
    found = _ID.search(text)
    try:
        return str(orjson.loads(found[1])) if found else ""
    except orjson.JSONDecodeError:
        return ""


def most_tokens(body: Mapping[str, Any]) -> int | None:
    """Return the request's own limit of its answer's tokens."""
    options = body.get("options")
    limits = [
        body.get("max_completion_tokens"),
        body.get("max_output_tokens"),
        body.get("max_tokens"),
        options.get("num_predict") if isinstance(options, dict) else None,
    ]
    given = [n for n in limits if isinstance(n, int) and n > 0]
    return min(given) if given else None


def _wrong(param: str, what: str, got: object) -> LineError:
    shown = "" if got is None else f", got {got!r:.60}"
    return LineError(f"{param}: {what}{shown}", None, param)
