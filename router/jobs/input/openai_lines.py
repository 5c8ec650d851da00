"""OpenAI's batch files, line by line: what is wrong with a line, by line and column.

Bounded memory: one line at a time, and of the lines before it a number each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import orjson

from router.jobs.model import Fault, ItemKind, JobSpec, NewItem
from router.jobs.planning.protocols import Predictor
from router.model import canonical

_MOST_ID_CHARACTERS = 512
_BOM = b"\xef\xbb\xbf"
_SKIP_BYTES = 1024 * 1024


class LineError(Exception):
    """A line that is no request; column counts characters from 1."""

    def __init__(
        self, message: str, column: int | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.column = column
        self.param = param


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it came; `data` is None where it is too long."""

    number: int
    data: bytes | None


def split(source: IO[bytes], longest: int) -> Iterator[Line]:
    """Yield lines that are not blank; of one that is too long nothing is kept."""
    number = 0
    while piece := source.readline(longest + 1):
        number += 1
        if number == 1:
            piece = piece.removeprefix(_BOM)
        if len(piece) > longest and not piece.endswith(b"\n"):
            while piece and not piece.endswith(b"\n"):
                piece = source.readline(_SKIP_BYTES)
            yield Line(number, None)
        elif piece.strip():
            yield Line(number, piece)


class Requests:
    """Reads lines as requests of one job."""

    def __init__(self, spec: JobSpec, predictor: Predictor, longest: int) -> None:
        self._spec = spec
        self._predictor = predictor
        self._longest = longest
        # Numbers in place of texts: a million ids must fit into memory.
        self._seen: set[int] = set()

    def read(self, source: IO[bytes]) -> Iterator[NewItem]:
        for index, line in enumerate(split(source, self._longest)):
            yield self._item(index, line)

    def _item(self, index: int, line: Line) -> NewItem:
        custom_id = ""
        try:
            fields = parse(line.data, self._longest)
            custom_id = self._custom_id(fields)
            return self._request(index, custom_id, fields)
        except LineError as error:
            return bad_item(index, line.number, error, custom_id)

    def _custom_id(self, fields: Mapping[str, Any]) -> str:
        custom_id = fields.get("custom_id")
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
        return custom_id

    def _request(
        self, index: int, custom_id: str, fields: Mapping[str, Any]
    ) -> NewItem:
        if fields.get("method") != "POST":
            raise _wrong("method", "must be 'POST'", fields.get("method"))
        if fields.get("url") != self._spec.endpoint:
            wanted = self._spec.endpoint
            raise _wrong("url", f"must be the job's {wanted!r}", fields.get("url"))
        body = fields.get("body")
        if not isinstance(body, dict):
            raise _wrong("body", "must be an object", body)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise _wrong("body.model", "must be a text that is not empty", model)
        if body.get("stream"):
            raise _wrong("body.stream", "must not be asked for in a job", True)
        data = orjson.dumps(body)
        most = most_tokens(body)
        name = canonical(model)
        return NewItem(
            key=str(index),
            kind=ItemKind.ROW,
            index=index,
            custom_id=custom_id,
            endpoint=self._spec.endpoint,
            model=name,
            body=data,
            weight=self._predictor.predict(name, len(data), most),
        )


def parse(data: bytes | None, longest: int) -> dict[str, Any]:
    """Read one line's JSON object. Raises LineError with the column."""
    if data is None:
        raise LineError(f"longer than {longest} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        column = len(data[: error.start].decode()) + 1
        raise LineError(f"no UTF-8: byte 0x{data[error.start]:02x}", column) from error
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise LineError(f"no JSON: {error.msg}", error.pos + 1) from error
    if not isinstance(fields, dict):
        raise LineError(f"must be a JSON object, got {type(fields).__name__}", 1)
    return fields


def bad_item(index: int, line: int, error: LineError, custom_id: str = "") -> NewItem:
    """Make the item of a line that cannot be run: it fails, the others run."""
    place = f"line {line}" + (f", column {error.column}" if error.column else "")
    fault = Fault("invalid_line", f"{place}: {error}", line, error.column, error.param)
    return NewItem(str(index), ItemKind.ROW, index, custom_id, "", "", b"", 0.0, fault)


def most_tokens(body: Mapping[str, Any]) -> int | None:
    """Return the request's own limit of its answer's tokens."""
    options = body.get("options")
    limits = [
        body.get("max_completion_tokens"),
        body.get("max_tokens"),
        options.get("num_predict") if isinstance(options, dict) else None,
    ]
    given = [n for n in limits if isinstance(n, int) and n > 0]
    return min(given) if given else None


def _wrong(param: str, what: str, got: object) -> LineError:
    shown = "" if got is None else f", got {got!r:.60}"
    return LineError(f"{param}: {what}{shown}", None, param)
