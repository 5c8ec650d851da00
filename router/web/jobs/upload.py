"""A multipart form with a file in it, streamed to the disk while it arrives.

Bounded memory: a piece at a time, and fields up to a limit. A sender may take
its time as long as something keeps coming.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    NeedData,
)

from router.errors import BadRequestError, BodyTimeoutError, BodyTooLargeError
from router.jobs.input.uploads import PendingUpload

_PIECE_BYTES = 65_536
_MOST_PARTS = 64
_MOST_FIELD_BYTES = 1024 * 1024
_MOST_NAME_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """most_bytes: of the file; stall_seconds: longest time in which nothing comes.

    part: the form's part that the file is in
    """

    most_bytes: int
    stall_seconds: float
    part: str = "file"


@dataclass(slots=True)
class Form:
    """Fields by name, and the file: its own name and its bytes, not yet kept."""

    fields: dict[str, str]
    filename: str = ""
    draft: PendingUpload | None = None

    def discard(self) -> None:
        if self.draft:
            self.draft.discard()


class _Reading:
    """The form while it arrives."""

    def __init__(
        self, limits: UploadLimits, begin: Callable[[], PendingUpload]
    ) -> None:
        self.form = Form({})
        self._limits = limits
        self._begin = begin
        self._field: tuple[str, bytearray] | None = None
        self._field_bytes = 0

    def take(self, event: Event) -> None:
        if isinstance(event, File):
            self._begin_file(event)
        elif isinstance(event, Field):
            self._field = (event.name or "", bytearray())
        elif isinstance(event, Data):
            self._data(event)

    def _begin_file(self, event: File) -> None:
        part = self._limits.part
        if event.name != part:
            raise BadRequestError(
                f"a file must be in part {part!r}, got {event.name!r}"
            )
        if self.form.draft:
            raise BadRequestError(f"{part}: there must be one, got a second")
        self._field = None
        name = event.filename.replace("\\", "/").rpartition("/")[2]
        self.form.filename = name[:_MOST_NAME_CHARACTERS] or "file"
        self.form.draft = self._begin()

    def _data(self, event: Data) -> None:
        if self._field is None:
            draft = self.form.draft
            assert draft is not None  # noqa: S101 - a part has begun
            if draft.size + len(event.data) > self._limits.most_bytes:
                most = self._limits.most_bytes
                raise BodyTooLargeError(f"{self._limits.part}: over {most} bytes")
            if event.data:
                draft.write(event.data)
            return
        name, value = self._field
        self._field_bytes += len(event.data)
        if self._field_bytes > _MOST_FIELD_BYTES:
            raise BodyTooLargeError(f"the fields are over {_MOST_FIELD_BYTES} bytes")
        value += event.data
        if not event.more_data:
            self._end_field(name, bytes(value))

    def _end_field(self, name: str, value: bytes) -> None:
        if name in self.form.fields:
            raise BadRequestError(f"{name}: given twice")
        try:
            self.form.fields[name] = value.decode()
        except UnicodeDecodeError as error:
            raise BadRequestError(f"{name}: no UTF-8") from error


def read_form(
    environ: Mapping[str, Any], limits: UploadLimits, begin: Callable[[], PendingUpload]
) -> Form:
    """Read a form; whoever gets it must keep or discard it.

    Raises BadRequestError, BodyTooLargeError, BodyTimeoutError, and what writing
    to the disk raises; nothing is left of the file then.
    """
    decoder = MultipartDecoder(
        _boundary(environ), 2 * _PIECE_BYTES + _MOST_FIELD_BYTES, max_parts=_MOST_PARTS
    )
    reading = _Reading(limits, begin)
    done = False
    try:
        for event in _events(decoder, _pieces(environ, limits)):
            reading.take(event)
        done = True
    except RequestEntityTooLarge as error:
        raise BodyTooLargeError("the form has too many or too large parts") from error
    except (ValueError, AttributeError, LookupError) as error:
        raise BadRequestError(f"the body is no multipart form: {error}") from error
    finally:
        if not done:
            reading.form.discard()
    return reading.form


def _boundary(environ: Mapping[str, Any]) -> bytes:
    kind, options = parse_options_header(environ.get("CONTENT_TYPE", ""))
    if kind != "multipart/form-data":
        raise BadRequestError(
            f"the body must be multipart/form-data, got {kind or 'nothing'!r}"
        )
    boundary = options.get("boundary", "")
    if not 0 < len(boundary) <= 200:
        raise BadRequestError("the multipart form names no boundary")
    try:
        return boundary.encode("ascii")
    except UnicodeEncodeError as error:
        raise BadRequestError("the multipart form's boundary is no ASCII") from error


def _events(decoder: MultipartDecoder, pieces: Iterator[bytes]) -> Iterator[Event]:
    """Yield what the decoder makes of the pieces, up to the form's end."""
    for piece in pieces:
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), NeedData):
            yield event
    decoder.receive_data(None)
    while not isinstance(event := decoder.next_event(), Epilogue):
        yield event


def _pieces(environ: Mapping[str, Any], limits: UploadLimits) -> Iterator[bytes]:
    stream = environ["wsgi.input"]
    may_stall = getattr(stream, "may_stall", lambda _seconds: None)
    release = getattr(stream, "release", lambda _size: None)
    may_stall(limits.stall_seconds)
    while True:
        try:
            piece = stream.read(_PIECE_BYTES)
        except TimeoutError as error:
            raise BodyTimeoutError(str(error)) from error
        except OSError as error:
            raise BadRequestError(f"the body cannot be read: {error}") from error
        if not piece:
            return
        yield piece
        release(len(piece))
