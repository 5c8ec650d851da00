"""Makes the request of each item from its row in the job's file when the item runs.

A sandbox reads the rows; it is kept while it is used and answers in order. If an item's
answer does not come in time, that ends the sandbox, and the other items ask again.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import gevent
from gevent.event import AsyncResult, Event
from gevent.lock import BoundedSemaphore

from router.errors import InferOpsError
from router.jobs.input.sandbox.frames import Frame
from router.jobs.input.sandbox.process import Sandbox, SandboxError, SandboxLimits
from router.jobs.input.sources import FileSettings
from router.jobs.model import STORED_REQUEST, Item, Job
from router.jobs.reducers import samples
from router.jobs.spec import spec_text
from router.logs.events import get_logger

_ANSWER_SECONDS = 20.0
_IDLE_SECONDS = 60.0
_TRIES = 3  # when another item ended the sandbox

log = get_logger("jobs")

ReadBody = Callable[[int], bytes | None]


class RowError(InferOpsError):
    """No request can be made of an item's row, or not in time."""


class Bodies:
    """Builds the request of each item from its row, in a sandbox.

    stored: reads an item's stored body from the database; None if it was deleted
    path:   returns the path of a file
    """

    def __init__(
        self,
        stored: ReadBody,
        path: Callable[[str], Path],
        settings: Callable[[], FileSettings],
    ) -> None:
        self._stored = stored
        self._path = path
        self._settings = settings
        self._maker: _Maker | None = None

    def of(self, job: Job, item: Item) -> bytes | None:
        """Return the request's body; None if the job was deleted.

        Raises RowError, and what reading the database raises.
        """
        stored: bytes | None = b""
        if item.place < 0:
            stored = self._stored(item.id)
        if stored is None or item.place == STORED_REQUEST:
            return stored
        body = self._made(job, item, stored)
        if samples(job.spec.reducer) == 1 and len(body) != item.size:
            raise RowError("the job's file has changed since it was read")
        return body

    def prepare(self, job: Job, items: Iterable[Item]) -> None:
        """Open the job's file, so that no slot waits for that."""
        if any(item.place != STORED_REQUEST for item in items):
            with contextlib.suppress(RowError):  # whoever runs them is told
                self._ask(job, {"command": "open"}, b"")

    def close(self) -> None:
        if self._maker is not None:
            self._maker.end()

    def _made(self, job: Job, item: Item, stored: bytes) -> bytes:
        question = {"command": "render", "place": item.place, "index": item.index}
        return self._ask(job, question, stored)

    def _ask(self, job: Job, asked: Mapping[str, Any], stored: bytes) -> bytes:
        question = {**asked, "job": job.id}
        for _ in range(_TRIES):
            if self._maker is None or self._maker.over:
                self._maker = _Maker(SandboxLimits(self._settings().memory_bytes))
            try:
                head, body = self._maker.ask(question, stored)
                if "unknown" in head:
                    head, body = self._maker.ask({**question, **self._job(job)}, stored)
            except _OthersFaultError:
                continue
            if "fault" in head:
                raise RowError(head["fault"])
            return body
        raise RowError("rows of other items keep ending the process that reads them")

    def _job(self, job: Job) -> Mapping[str, Any]:
        return {
            "spec": spec_text(job.spec),
            "path": str(self._path(job.spec.file)),
            "limits": asdict(self._settings().limits),
        }


class _OthersFaultError(Exception):
    """The sandbox ended because of another item: ask again."""


class _Maker:
    """A sandbox that makes one request after the other.

    over: whether it has ended, or is about to
    """

    def __init__(self, limits: SandboxLimits) -> None:
        self.over = False
        self._sandbox = Sandbox(limits)
        self._waiting: deque[AsyncResult[Frame]] = deque()
        self._wake = Event()
        self._sending = BoundedSemaphore(1)
        gevent.spawn(self._receive)

    def ask(self, question: Mapping[str, Any], stored: bytes) -> Frame:
        """Raises RowError, _OthersFaultError."""
        answer: AsyncResult[Frame] = AsyncResult()
        with self._sending:
            if self.over:
                raise _OthersFaultError
            self._waiting.append(answer)
            self._wake.set()
            with contextlib.suppress(SandboxError):  # whoever receives is told, too
                self._sandbox.send(question, stored)
        return cast("Frame", answer.get())

    def end(self) -> None:
        self.over = True
        self._sandbox.end()

    def _receive(self) -> None:
        guilty: Exception = _OthersFaultError()
        try:
            while self._wake.wait(_IDLE_SECONDS):
                self._wake.clear()
                while self._waiting:
                    frame = self._sandbox.receive(_ANSWER_SECONDS)
                    self._waiting.popleft().set(frame)
        except (SandboxError, OSError) as error:
            guilty = RowError(f"its row cannot be read: {error}")
        except RuntimeError as error:
            log.exception("rendering_broke")
            guilty = RowError(f"its row cannot be read: {error}")
        finally:
            self.over = True
            for number, answer in enumerate(self._waiting):
                answer.set_exception(_OthersFaultError() if number else guilty)
            self._sandbox.end()
