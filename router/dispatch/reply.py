"""One node's reply, read and passed on by callbacks of the event loop.

A greenlet is not woken per token: it starts the reading, sleeps until there is
a head and a first line, decides, lets `pump` run, and sleeps until the end.
A callback must never block and never raise, or its greenlet sleeps for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from router.dispatch.attention import Attention, CooperativeSocket, watch
from router.dispatch.backend import Connection
from router.dispatch.http1 import Body, Head, ProtocolError, split_head
from router.dispatch.stream import Gate, is_sse
from router.model import Outcome

_READ_BYTES = 65_536
# A reply that is no stream is collected whole, so that it can be had elsewhere
# if the node dies in the middle of it.
MAX_COLLECTED_BYTES = 256 * 1024 * 1024


class Reply:
    """The reading end of a connection.

    head:   None until it is whole
    gate:   set where the reply is a stream; its lines are gathered in `ready`
    broken: why the connection failed; None while it has not
    """

    def __init__(self, connection: Connection, attention: Attention) -> None:
        self.connection = connection
        self.head: Head | None = None
        self.gate: Gate | None = None
        self.broken: str | None = None
        self.bytes_seen = 0
        self._attention = attention
        self._body: Body | None = None
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._pump: Callable[[bytes, bytes | None], None] | None = None
        self._recv = connection.raw.recv
        self._io = watch(connection.sock.fileno(), 1)
        self._io.start(self._readable)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        if self.broken is not None:
            return True
        if self.gate and self.gate.failure is not None:
            return True
        return self._body is not None and self._body.ended

    @property
    def presentable(self) -> bool:
        """Whether it can be judged: a stream by its first line, the rest whole."""
        if self.over:
            return True
        return self.gate is not None and self._size > 0

    def take(self) -> bytes:
        """Return what was gathered so far."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        return b"".join(pieces)

    def gather_again(self, body: bytes) -> None:
        """Put back what was taken to be judged."""
        self._pieces.insert(0, body)

    def deliver_to(self, pump: Callable[[bytes, bytes | None], None]) -> None:
        """Hand every further block of whole lines to `pump`, in the loop.

        With it comes the same as the one chunk that it arrived in, if it did.
        """
        self._pump = pump

    def pause(self) -> None:
        self._io.stop()

    def resume(self) -> None:
        if not self.over:
            self._io.start(self._readable)

    def close(self) -> bool:
        """Stop reading; True if the connection may carry another request."""
        self._io.stop()
        self._io.close()
        if self.broken is None and self._body is not None and self._body.reusable:
            return True
        self.connection.close()
        return False

    def outcome(self) -> Outcome:
        """Say how the reply ended, once it is over."""
        if self.gate and self.gate.failure is not None:
            return Outcome.ERROR_LINE
        if self.broken is not None:
            return Outcome.EOF
        if self.gate and not self.gate.finished:
            return Outcome.EOF
        return Outcome.END

    def _readable(self) -> None:
        try:
            data = self._recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(str(error))
            return
        try:
            if not self._pass_on(data):
                self._feed(data)
        except ProtocolError as error:
            self._break(str(error))

    def _pass_on(self, data: bytes) -> bool:
        """The usual case, made cheap: whole chunks of whole lines, as they came."""
        if self._pump is None or self._body is None or self.gate is None:
            return False
        payload = self._body.whole_chunks(data)
        if payload is None or not self.gate.whole(payload):
            return False
        self._pump(payload, data)
        return True

    def _feed(self, data: bytes) -> None:
        if not data:
            self._end_of_connection()
            return
        self.bytes_seen += len(data)
        body = self._body
        if body is None:
            self._buffer += data
            parsed = split_head(self._buffer)
            if parsed is None:
                return
            self.head, data = parsed
            body = self._begin_body(self.head)
        payload = body.feed(data)
        if self.gate:
            payload = self.gate.feed(payload) if payload else b""
        if payload:
            if self._pump:
                self._pump(payload, None)
            else:
                self._collect(payload)
        if self.over:
            self._io.stop()
            self._attention.nudge()

    def _begin_body(self, head: Head) -> Body:
        self._body = body = Body(head)
        self._buffer = b""
        sse = is_sse(head.get("content-type"))
        if sse is not None and head.status == 200:
            self.gate = Gate(sse=sse)
        return body

    def _collect(self, payload: bytes) -> None:
        self._pieces.append(payload)
        self._size += len(payload)
        if self.gate:
            self._attention.nudge()
        elif self._size > MAX_COLLECTED_BYTES:
            raise ProtocolError(f"reply over {MAX_COLLECTED_BYTES} bytes")

    def _end_of_connection(self) -> None:
        if self._body is not None:
            self._body.close()
        if self._body is None or not self._body.ended:
            self._break("the node closed the connection")
        else:
            self._io.stop()
            self._attention.nudge()

    def _break(self, why: str) -> None:
        self.broken = why
        self._io.stop()
        self._attention.nudge()


class Pump:
    """Passes a stream's lines to the client until one of a few outcomes.

    What the client does not take waits here, and reading stops until it has:
    a slow client costs one read's worth of memory and holds nobody else.
    """

    def __init__(
        self,
        reply: Reply,
        client: CooperativeSocket,
        attention: Attention,
        *,
        chunked: bool,
        clock: Callable[[], float],
    ) -> None:
        self._reply = reply
        self._client = client
        self._write_some = client._sock.send  # noqa: SLF001 - never waits
        self._attention = attention
        self._chunked = chunked
        self._clock = clock
        self._rest = b""
        self._moved = True
        self._io = watch(client.fileno(), 2)

    def run(self, stall_seconds: float) -> Outcome:
        """Pump until the end; returns with everything sent that can be."""
        self._reply.deliver_to(self._send)
        self._send(self._reply.take(), None)
        moved_at = self._clock()
        try:
            while not self._reply.over or self._rest:
                if self._attention.stopped:
                    return self._attention.stopped
                now = self._clock()
                if self._moved:
                    self._moved, moved_at = False, now
                elif now - moved_at >= stall_seconds:
                    return Outcome.CLIENT_GONE if self._rest else Outcome.STALLED
                # Tokens only leave a mark; the clock is read a few times a stall.
                self._attention.sleep(stall_seconds / 4)
        finally:
            self._reply.pause()
            self._io.stop()
            self._io.close()
        return self._attention.stopped or self._reply.outcome()

    def _send(self, block: bytes, framed: bytes | None) -> None:
        if not block:
            return
        if not self._chunked:
            data = block
        else:
            data = framed or b"%x\r\n%b\r\n" % (len(block), block)
        self._moved = True
        if self._rest:
            self._rest += data
            return
        self._write(data)
        if self._rest:
            self._reply.pause()
            self._io.start(self._writable)

    def _write(self, data: bytes) -> None:
        try:
            sent = self._write_some(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._attention.stop(Outcome.CLIENT_GONE)
            self._rest = b""
            return
        self._rest = data[sent:] if sent < len(data) else b""

    def _writable(self) -> None:
        self._moved = True
        self._write(self._rest)
        if not self._rest:
            self._io.stop()
            self._reply.resume()
            self._attention.nudge()
