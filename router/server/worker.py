"""gunicorn's gevent worker with a door of its own: what a client may do to it.

gunicorn bounds neither how slowly a body comes nor how many connections lie
idle, drains refused bodies for as long as they last, and answers in HTML. Here
each connection has its limits, an idle one makes room for a new one, and no
sender of much data holds the event loop. TLS is spoken at an address of its own
(`router.server.tls`), HTTP/2 is not.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from gevent.socket import wait_read, wait_write
from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.ggevent import GeventWorker

from router.errors import BadRequestError, BodiesFullError
from router.logs.events import get_logger
from router.server.body_budget import BodyBudget
from router.server.body_pace import BodyPace
from router.server.file_limit import spare_for
from router.server.response import ClientConnection, serve
from router.server.tls import terminated

T = TypeVar("T")

MAX_HEAD_BYTES = 65_536
MAX_HEADER_BYTES = 32_768  # of one; a token of a company's login may take half of it
MAX_HEADERS = 100
MAX_REQUEST_LINE_BYTES = 8_190
# So much of what is in chunks is taken before their size is looked at.
_UNWRAPPED_BYTES = 16_384
# A rest of a refused body that is cheaper to read than a new connection.
_DRAIN_BYTES = 65_536
_DRAIN_SECONDS = 1.0
# A close with unread bytes is a reset, which may overtake the refusal.
_DISCARD_BYTES = 128 * 1024 * 1024
_DISCARD_SECONDS = 3.0

# A bare LF ends it as well: gunicorn's parser refuses such a head at once.
_END_OF_HEAD = re.compile(rb"\r\n\r\n|(?<!\r)\n")
_CONTENT_TYPE = re.compile(rb"((?:\A|\r\n)content-type:[^\r\n]*)", re.IGNORECASE)

log = get_logger("door")


class HeadTimeoutError(Exception):
    """A request's head came too slowly."""


class SocketReader(SocketUnreader):  # type: ignore[misc]  # gunicorn ships no types
    """A connection's bytes; each wait has a limit, and bodies share a limit.

    silent:     nothing of a next request has come, since `idle_since`
    held_bytes: of the request's body, counted in `bodies`
    """

    def __init__(self, client: Any, bodies: BodyBudget) -> None:
        super().__init__(client)
        self.bodies = bodies
        self.held_bytes = 0
        self.pace = BodyPace(0.0, 0.0)
        self.silent = True
        self.idle_since = time.monotonic()

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Read more of a body.

        Raises TimeoutError where it is too slow, BodiesFullError. It waits in any case:
        a fast sender whose bytes are always there would hold the event loop until its
        body ends.
        """
        late = TimeoutError(self.pace.message)
        left = self.pace.left(time.monotonic())
        if left <= 0:
            raise late
        wait_read(self.sock.fileno(), left, late)
        data: bytes = super().chunk(size_hint)
        self.pace.take(len(data))
        self.hold(len(data))
        return data

    def hold(self, size: int) -> None:
        """Count more than has arrived. Raises BodiesFullError."""
        self.bodies.hold(size)
        self.held_bytes += size

    def keep(self, size: int) -> None:
        """Count what another part has counted so far."""
        self.bodies.held_bytes += size
        self.held_bytes += size

    def release(self, size: int | None = None) -> None:
        """Count so much of the body no longer, or all of it."""
        size = self.held_bytes if size is None else min(size, self.held_bytes)
        self.held_bytes -= size
        self.bodies.release(size)

    def read_head(self, head_seconds: float) -> bool:
        """Wait for a whole head and put it back; False if the client is done.

        Who is idle for too long is shut by `Worker.notify`. Raises HeadTimeoutError,
        LimitRequestHeaders.
        """
        data = bytearray(self.take_buffered())
        self.silent = not data
        if data:
            wait_write(self.sock.fileno())  # pipelined: let others have a turn
        else:
            self.idle_since = time.monotonic()
            data += self.sock.recv(self.mxchunk)
            if not data:
                return False
        self.silent = False
        deadline, seen = time.monotonic() + head_seconds, 0
        while not _END_OF_HEAD.search(data, max(0, seen - 3)):
            if len(data) > MAX_HEAD_BYTES:
                raise errors.LimitRequestHeaders(f"head over {MAX_HEAD_BYTES} bytes")
            seen = len(data)
            gone = not self._receive(data, deadline - time.monotonic())
            if time.monotonic() >= deadline:
                raise HeadTimeoutError(f"the head took over {head_seconds:g} s")
            if gone:
                return False
        self.unread(bytes(data))
        return True

    def _receive(self, data: bytearray, seconds: float) -> bool:
        """Add what comes; False at the end of the connection or of the time."""
        self.sock.settimeout(max(0.001, seconds))
        try:
            piece = self.sock.recv(self.mxchunk)
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(None)
        data += piece
        return bool(piece)


class Chunks:
    """Reads a body's chunks; small ones without end are refused."""

    def __init__(self, reader: Any, source: SocketReader) -> None:
        self._reader = reader
        self._source = source

    @property
    def parser(self) -> Any:
        """Return what parses them; None behind the last one."""
        return self._reader.parser

    def read(self, size: int) -> bytes:
        data: bytes = self._reader.read(min(size, _UNWRAPPED_BYTES))
        self._source.pace.unwrap(len(data), ahead=self._reader.buf.tell())
        return data


class RequestBody:
    """A request's body. What is wrong with it is an OSError, which all expect."""

    def __init__(self, body: Any, source: Any = None) -> None:
        self._body = body
        self._source = source
        self.failed = False

    def may_stall(self, seconds: float) -> None:
        """Let it stand still for so long from now on."""
        if isinstance(self._source, SocketReader):
            self._source.pace = BodyPace(time.monotonic(), seconds)

    def expect(self, size: int) -> None:
        """Raise BodiesFullError where a body of this size has no room now."""
        if isinstance(self._source, SocketReader):
            self._source.bodies.expect(size - self._source.held_bytes)

    def hold(self, size: int) -> None:
        """Say that so much was made of what was read. Raises BodiesFullError."""
        if isinstance(self._source, SocketReader):
            self._source.hold(size)

    def keep(self, size: int) -> None:
        """Say that so much is held for the answer; it is there already."""
        if isinstance(self._source, SocketReader):
            self._source.keep(size)

    def release(self, size: int) -> None:
        """Say that so much of what was read is in memory no more."""
        if isinstance(self._source, SocketReader):
            self._source.release(size)

    @property
    def left(self) -> float:
        """How much was not read; without end where that cannot be known."""
        reader = self._body.reader
        if self.failed:
            return math.inf
        if isinstance(reader, LengthReader):
            return float(reader.length)
        return 0.0 if reader.parser is None else math.inf

    def read(self, size: int | None = None) -> bytes:
        data: bytes = self._guarded(self._body.read, size)
        return data

    def readline(self, size: int | None = None) -> bytes:
        data: bytes = self._guarded(self._body.readline, size)
        return data

    def readlines(self, hint: int | None = None) -> list[bytes]:
        lines: list[bytes] = self._guarded(self._body.readlines, hint)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _guarded(self, read: Callable[[int | None], T], size: int | None) -> T:
        done = False
        try:
            data = read(size)
            done = True
        except errors.ParseException as error:
            raise OSError(str(error)) from error
        finally:  # a timeout of gevent's is no Exception
            self.failed = self.failed or not done
        return data


class BoundedRequest(Request):  # type: ignore[misc]  # gunicorn ships no types
    """A request whose connection ends with it when its body was not read."""

    body: Any

    def set_body_reader(self) -> None:
        super().set_body_reader()
        if isinstance(self.body.reader, ChunkedReader):
            self.body.reader = Chunks(self.body.reader, self.unreader)
        self.body = RequestBody(self.body, self.unreader)
        self._last = bool(super().should_close())  # as its head says

    def parse(self, unreader: Any) -> bytes:
        """Take apart a head that is there as a whole; leave any other to gunicorn."""
        data: bytes = unreader.take_buffered()
        line, _, rest = data.partition(b"\r\n")
        fields, end, body = rest.partition(b"\r\n\r\n")
        usual = line and fields and end and not rest.startswith(b"\r\n")
        if not usual or b"\n" in line or len(line) > self.limit_request_line:
            unreader.unread(data)
            return bytes(super().parse(unreader))
        self.parse_request_line(line)
        self.headers = self.parse_headers(fields)
        return body

    def parse_headers(self, data: bytes, *, from_trailer: bool = False) -> Any:
        """Let the first of several content types count, as Go does."""
        if data.lower().count(b"content-type:") > 1:
            before, *rest = _CONTENT_TYPE.split(data)  # each, and what follows it
            data = b"".join((before, *rest[:1], *rest[1::2]))
        return super().parse_headers(data, from_trailer)

    def _peer_is_trusted_proxy(self) -> bool:
        """Believe nobody, as `forwarded_allow_ips` says; asked for each request."""
        return False

    def should_close(self) -> bool:
        return self._last or self.must_close or self.body.left > _DRAIN_BYTES


class BoundedParser(RequestParser):  # type: ignore[misc]  # gunicorn ships no types
    mesg_class = BoundedRequest

    def finish_body(
        self, deadline: float | None = None, max_bytes: int | None = None
    ) -> bool:
        if self.mesg is None or self.mesg.body.left == 0:
            return True
        try:
            return bool(super().finish_body(deadline, max_bytes))
        except (BodiesFullError, BadRequestError):
            return False


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Serves connections within limits; the only worker.

    immediate:        SIGINT or SIGQUIT: streams end now, with their frame
    ending:       a signal ends this worker, which may retire already
    head_seconds: longest wait for a head
    body_seconds: longest time in which nothing of a body comes, whoever reads it
    refused:      told why a client was sent away at the door
    bodies:       counts what is held of bodies, and bounds it
    tls:          gives what clients of a listener, by its name, shake hands with
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.immediate = self.ending = False
        self.head_seconds: Callable[[], float] = lambda: 30.0
        self.body_seconds: Callable[[], float] = lambda: 60.0
        self.refused: Callable[[str], None] = lambda _reason: None
        self.bodies = BodyBudget()
        self.tls: Callable[[Any], Any] = lambda _name: None
        self._limit = self.worker_connections
        self.worker_connections += spare_for(self._limit)
        self._retiring = False
        self._clients: dict[Any, Any] = {}  # and their parsers
        self._idle: dict[Any, SocketReader] = {}  # the longest idle first

    # Signals

    def init_signals(self) -> None:
        """Ignore HUP (a terminal that closes) and USR2: their default is death."""
        super().init_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    def handle_exit(self, signal_: int, frame: object) -> None:
        """End; one that retires already has had no word of that."""
        self.ending = True
        super().handle_exit(signal_, frame)

    def handle_quit(self, _signal: int, _frame: object) -> None:
        """End at once, but never silently: the router ends streams with a frame."""
        self.immediate = self.ending = True
        self.alive = False

    def notify(self) -> None:
        """Tell gunicorn's master that the loop runs; without a master, end.

        Called every second, so connections that are idle for too long end here: a timer
        for each wait of each would cost every request one.
        """
        self.tmp.notify()
        self._close_idle(time.monotonic() - self.cfg.keepalive)
        if self.alive and self.ppid != os.getppid():
            self.log.warning("the master is gone: ending")
            self.handle_quit(signal.SIGQUIT, None)

    # Connections

    def run(self) -> None:
        for listener in self.sockets:
            _bound_silence(listener)
        super().run()
        if self._retiring and not self.ending:  # or the master starts another worker
            os.kill(self.ppid, signal.SIGTERM)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection until it ends."""
        name, scheme = listener.getsockname(), "http"
        if context := self.tls(name):
            client, scheme = terminated(client, context), "https"
        if not self._admit(client):
            return
        parser = BoundedParser(self.cfg, client, addr)
        parser.unreader = source = SocketReader(client, self.bodies)
        self._clients[client] = parser
        refused = False
        try:
            self._converse(parser, ClientConnection(client, addr, name, scheme))
        except (StopIteration, errors.NoMoreData):
            pass
        except OSError as error:
            log.debug("connection_broke", fault=str(error))
        except Exception as error:  # noqa: BLE001 - as gunicorn's own: all are answered
            refused = True
            self.handle_error(None, client, addr, error)
        finally:
            if refused or (parser.mesg and parser.mesg.body.left):
                _drain_socket(client)
            source.release()
            del self._clients[client]
            client.close()

    def _converse(self, parser: Any, peer: ClientConnection) -> None:
        source: SocketReader = parser.unreader
        client = peer.socket
        while parser.finish_body(time.monotonic() + _DRAIN_SECONDS):
            self._idle[client] = source
            try:
                if not source.read_head(self.head_seconds()):
                    return
            finally:
                self._idle.pop(client, None)
            source.pace = BodyPace(time.monotonic(), self.body_seconds())
            request = next(parser)
            if self._retiring:
                request.force_close()  # the next one is for the successor
            serve(self, request, peer)
            source.release()

    def _admit(self, client: Any) -> bool:
        """Make room by closing what has been idle longest; False if none is."""
        if len(self._clients) < self._limit:
            return True
        oldest = next(iter(self._idle), None)
        if oldest is None:
            self.refused("connections")
            text = f"the router serves {self._limit} connections already"
            _refuse(client, 503, text, "Retry-After: 5\r\n")
            _drain_socket(client)
            return False
        del self._idle[oldest]
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def handle_error(self, _request: Any, client: Any, _addr: Any, exc: Any) -> None:
        """Answer what the application could not be asked, or did not answer."""
        status, text = _fault(exc)
        if status == 500:
            self.log.error("a request failed", exc_info=exc)
        else:
            self.refused("malformed" if status != 408 else "head_timeout")
            log.debug("refused_at_the_door", status=status, fault=text)
        _refuse(client, status, text)

    def listening(self) -> list[int]:
        """Return the descriptors of the sockets that listen."""
        return [each.fileno() for each in self.sockets]

    def retire(self) -> None:
        """Accept nothing more, and serve who is there for as long as it takes.

        A connection ends after an answer that says so, or when it was idle for its
        time: to close one just when its client asks would lose a request.
        """
        self._retiring = True
        object.__setattr__(self.cfg, "graceful_timeout", math.inf)  # it refuses its own
        self.alive = False

    @property
    def serving(self) -> bool:
        """Whether any client is connected."""
        return bool(self._clients)

    def close_idle(self) -> None:
        """Say goodbye to those who have asked for nothing, and soon to the rest."""
        for parser in self._clients.values():
            if parser.mesg is not None:
                parser.mesg.force_close()
        self._close_idle(math.inf)

    def _close_idle(self, since: float) -> None:
        """End the reading of those of whom nothing has come since."""
        for client, source in list(self._idle.items()):
            if source.silent and source.idle_since < since:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RD)

    def close_connections(self) -> None:
        """End the reading of every connection: what waits for a client ends."""
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)


_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (HeadTimeoutError, 408),
    (errors.InvalidResponseHeader, 500),
    (errors.InvalidResponseHeaderName, 500),
    (errors.LimitRequestLine, 414),
    (errors.LimitRequestHeaders, 431),
    (errors.ExpectationFailed, 417),
    (errors.UnsupportedTransferCoding, 501),
    (errors.ParseException, 400),
)


_TEXTS = {
    414: f"the request line is over {MAX_REQUEST_LINE_BYTES} bytes",
    431: f"the headers are too large: at most {MAX_HEADER_BYTES} bytes each,"
    f" {MAX_HEAD_BYTES} together, and {MAX_HEADERS} of them",
    500: "the router failed",
}


def _fault(error: BaseException) -> tuple[int, str]:
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            text = str(error) or HTTPStatus(status).phrase.lower()
            return status, _TEXTS.get(status, text)
    return 500, "the router failed"


def _refuse(client: Any, status: int, text: str, extra: str = "") -> None:
    """Answer without waiting: a client that does not read gets half of it."""
    body = orjson.dumps({"error": text})
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    )
    with contextlib.suppress(OSError):
        client.settimeout(0.0)
        client.send(head.encode() + body)


def _drain_socket(client: Any) -> None:
    """Throw away what still comes, for a while, so that the answer is read."""
    left, deadline = _DISCARD_BYTES, time.monotonic() + _DISCARD_SECONDS
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while left > 0:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                return
            wait_read(client.fileno(), seconds, TimeoutError())
            data = client.recv(1_048_576)
            if not data:
                return
            left -= len(data)


def _bound_silence(listener: Any) -> None:
    """Let the kernel end connections whose client is gone or reads nothing.

    Set on the listener: what it accepts has the same.
    """
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 30),
        (socket.TCP_KEEPINTVL, 10),
        (socket.TCP_KEEPCNT, 3),
        (socket.TCP_USER_TIMEOUT, 120_000),
    ):
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
