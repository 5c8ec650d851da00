"""A request's body: read within its limits, decoded, and looked into.

What takes longer than a moment runs in native threads of its own, two at a time, so
that no body holds up the streams of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

from router.errors import BadRequestError, BodyTimeoutError, BodyTooLargeError
from router.relay.fields import Ask, read_ask
from router.relay.protocols import Route
from router.web.inference.encoding import coding_of, decode, most_decoded
from router.web.inference.request import IngressLimits

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["BodyReader"]

T = TypeVar("T")

_THREADS = 2


class BodyReader:
    """Reads bodies; its threads are made with the first that needs one."""

    def __init__(self) -> None:
        self._pool = ThreadPool(_THREADS)
        self._decoding = BoundedSemaphore(_THREADS)

    def read(
        self, environ: WSGIEnvironment, route: Route, limits: IngressLimits
    ) -> tuple[Ask, bytes]:
        """Return what is asked, and the plain body. Raises a RequestError."""
        most = min(limits.max_body_bytes, route.max_body_bytes)
        header = environ.get("HTTP_CONTENT_ENCODING")
        coding = coding_of(header) if header else ""
        body = _received(environ, most)
        if coding and body:
            body = self._decoded(body, coding, most, environ["wsgi.input"])
        return read_ask(route, body, self.run), body

    def run(self, call: Callable[[], T], /) -> T:
        """Run what is pure in a native thread; raises what it raises."""
        # Not by the pool's own result: that is part of a cycle, which would keep an
        # error, its frames and thereby the body until the next full collection.
        results: list[T] = []
        faults: list[Exception] = []
        self._pool.apply(_settle, (call, results, faults))
        if faults:
            raise faults.pop()
        return results.pop()

    def _decoded(self, body: bytes, coding: str, most: int, upload: Any) -> bytes:
        """Decode, with room for what it may become; the body was counted already."""
        with self._decoding, _reserved(upload, most_decoded(len(body), most)):
            plain = self.run(lambda: decode(body, coding, most))
        upload.hold(len(plain))
        upload.release(len(body))
        return plain


def _settle(call: Callable[[], T], results: list[T], faults: list[Exception]) -> None:
    try:
        results.append(call())
    except Exception as error:  # noqa: BLE001 - raised again by who waits for it
        faults.append(error)


@contextmanager
def _reserved(upload: Any, size: int) -> Iterator[None]:
    upload.hold(size)
    try:
        yield
    finally:
        upload.release(size)


def _received(environ: WSGIEnvironment, most: int) -> bytes:
    """Read a body whole: no larger, and not cut short."""
    declared = int(environ.get("CONTENT_LENGTH") or 0)
    too_large = BodyTooLargeError(f"the body is over {most} bytes")
    if declared > most:
        raise too_large
    environ["wsgi.input"].expect(declared)
    try:
        # How slowly it may come: `router.server.body_pace`.
        body: bytes = environ["wsgi.input"].read(most + 1)
    except TimeoutError as error:
        raise BodyTimeoutError(str(error)) from error
    except OSError as error:
        raise BadRequestError(f"the body cannot be read: {error}") from error
    if len(body) > most:
        raise too_large
    if len(body) < declared:
        raise BadRequestError("the body ended before its Content-Length")
    return body
