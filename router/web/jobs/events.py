"""A job's progress as server-sent events, until it is over or the reader leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import orjson

from router.jobs.model import Job
from router.jobs.reducers import Partial
from router.jobs.service import JobService
from router.jobs.store.database import StoreError
from router.web.jobs.text_stream import JobText

_PAUSE_SECONDS = 0.5
_PING_SECONDS = 15.0
# Progress without a change of its own: rates and times go on.
_QUIET_SECONDS = 2.0
_RETRY = b"retry: 2000\n\n"

Show = Callable[[Job, Any], dict[str, Any]]


class Events:
    """One reader's stream; `show` renders a job, `partial` what its reducer has.

    text: has the whole text sent as it grows, instead of what the reducer has
    """

    def __init__(
        self,
        service: JobService,
        job: str,
        show: Show,
        partial: Callable[[Job, Partial], dict[str, Any]],
        text: JobText | None = None,
    ) -> None:
        self._service = service
        self._job = job
        self._show = show
        self._partial = partial
        self._text = text
        self._rows: int | None = 0  # whose text is complete; None: all that there are
        self._seen = (-1, "")
        self._told_at = 0.0
        self._told_partial: object = None

    def __iter__(self) -> Iterator[bytes]:
        yield _RETRY
        while not self._service.stopping:
            try:
                ended, pieces = self._look()
                yield from self._new_text()
            except StoreError:  # the reader comes again
                return
            if pieces:
                self._told_at = time.monotonic()
                yield b"".join(pieces)
            elif time.monotonic() - self._told_at >= _PING_SECONDS:
                self._told_at = time.monotonic()
                yield b": still here\n\n"
            if ended:
                return
            gevent.sleep(_PAUSE_SECONDS)

    def _look(self) -> tuple[bool, list[bytes]]:
        active = self._service.active(self._job)
        quiet = time.monotonic() - self._told_at < _QUIET_SECONDS
        if active is not None and self._seen[0] == active.version and quiet:
            return False, []
        if active is None:  # it is over, or was not seen yet
            job, active = self._service.get(self._job)
        else:
            job = active.job
        shown = self._show(job, active)
        if job.state.over:
            self._rows = None
            return True, [_event("progress", _progress(shown)), _event("end", shown)]
        pieces = [_event("progress", _progress(shown))]
        version = active.version if active else -1
        changed = (version, orjson.dumps(shown["progress"]["items"]).decode())
        if changed == self._seen and quiet:
            return False, []
        self._seen = changed
        return False, pieces + self._partials(job)

    def _partials(self, job: Job) -> list[bytes]:
        partial = self._service.partial(job.id)
        if partial is None or partial == self._told_partial:
            return []
        if self._text is not None:
            self._rows = partial.covers
            return []
        self._told_partial = partial
        return [_event("partial", self._partial(job, partial))]

    def _new_text(self) -> Iterator[bytes]:
        """Send one bounded piece after the other; a slow reader holds only itself."""
        if self._text is None:
            return
        for mark, piece in self._text.up_to(self._rows):
            self._told_at = time.monotonic()
            name = b"id: " + str(mark).encode() + b"\n"
            yield name + _event("text", {"text": piece, "rows": mark.row})


def _progress(shown: dict[str, Any]) -> dict[str, Any]:
    names = ("state", "paused", "parked", "why_idle", "progress")
    return {name: shown[name] for name in names}


def _event(kind: str, content: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(content) + b"\n\n"
