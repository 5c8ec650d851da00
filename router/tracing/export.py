"""Which requests are recorded, and how their spans leave: never in a request's way.

A request that has ended is put into a bounded queue. A greenlet has a native thread
send what is there; what has no room, or is not taken, is dropped and counted.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import gevent
from gevent.event import Event

from router.errors import BusyError
from router.logs.events import get_logger
from router.runtime.threads import Pool
from router.tracing.context import in_share, parse
from router.tracing.spans import RequestSpans

_MOST_WAITING = 4096  # requests, with some five spans each
_AT_ONCE = 256
_GATHER_SECONDS = 1.0
_CLOSE_SECONDS = 2.0

log = get_logger("tracing")


class SpanExporter(Protocol):
    """Sends spans; runs in a native thread (`router.tracing.otlp`)."""

    def export(self, requests: Sequence[RequestSpans]) -> str:
        """Send them; says why they were not taken, or nothing."""


class SpanQueue:
    """Requests whose spans wait to be sent, oldest first.

    exported, failed, dropped: requests so far; no room is `dropped`
    fault: why the newest were not taken; empty: they were
    """

    def __init__(
        self, exporter: SpanExporter, offload: Callable[[Callable[[], str]], str]
    ) -> None:
        self._exporter = exporter
        self._offload = offload
        self._waiting: deque[RequestSpans] = deque()
        self.wake = Event()
        self.exported = self.failed = self.dropped = 0
        self.fault = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, spans: RequestSpans) -> None:
        """Take a request that has ended; never waits."""
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(spans)
        if len(self._waiting) >= _AT_ONCE:
            self.wake.set()

    def flush(self) -> None:
        """Send what is there; waits for the thread, in a greenlet of its own."""
        for batch in self._batches():
            fault = self._send(batch)
            if fault:
                self.failed += len(batch)
            else:
                self.exported += len(batch)
            if fault and not self.fault:
                log.warning("traces_not_exported", fault=fault[:300])
            if self.fault and not fault:
                log.info("traces_exported", failed=self.failed, dropped=self.dropped)
            self.fault = fault

    def _batches(self) -> Iterator[list[RequestSpans]]:
        for _ in range(len(self._waiting) // _AT_ONCE + 1):
            if self._waiting:
                size = min(_AT_ONCE, len(self._waiting))
                yield [self._waiting.popleft() for _ in range(size)]

    def _send(self, batch: list[RequestSpans]) -> str:
        try:
            return self._offload(lambda: self._exporter.export(batch))
        except BusyError as error:
            return str(error)
        except Exception as error:  # tracing must outlive any one fault
            log.exception("traces_failed")
            return repr(error)


class Tracing:
    """Begins and ends the spans of requests.

    ratio: the share of traces begun here that is recorded; a caller's own decision
           is kept
    """

    def __init__(self, queue: SpanQueue, ratio: Callable[[], float]) -> None:
        self.queue = queue
        self._ratio = ratio

    def begin(
        self, route: str, now: float, traceparent: str, state: str
    ) -> RequestSpans | None:
        """Begin a request's spans; None where it is not recorded."""
        offset = time.time() - time.monotonic()
        caller = parse(traceparent) if traceparent else None
        if caller is not None:
            if not caller.sampled:
                return None
            return RequestSpans(route, now, offset, caller, state)
        trace_id = os.urandom(16).hex()
        if not in_share(trace_id, self._ratio()):
            return None
        return RequestSpans(route, now, offset, trace_id=trace_id)

    def start(self) -> None:
        gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            self.queue.wake.wait(_GATHER_SECONDS)
            self.queue.wake.clear()
            self.queue.flush()

    def close(self) -> None:
        """Send what is there, for a moment, at the end of the process."""
        gevent.with_timeout(_CLOSE_SECONDS, self.queue.flush, timeout_value=None)


def export_thread(timeout_seconds: float) -> Pool:
    """Return the thread that spans are sent in; nothing else waits for it."""
    return Pool("export of traces", 1, waiting=1, seconds=2 * timeout_seconds)
