"""One node's reply, read and passed on by callbacks of the event loop.

The rest of a large request goes out in the same way: a node may take its time over a
slow link, and may answer before it has taken everything.

A greenlet is not woken per token: it starts the reading, sleeps until there is
a head and a first line, decides, lets `pump` run, and sleeps until the end.
A callback must never block and never raise, or its greenlet sleeps for ever.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any, Protocol

from router.errors import BodiesFullError
from router.model import Outcome
from router.relay.framing import Framer, is_sse
from router.relay.http1 import (
    MOST_SIZE_DIGITS,
    Body,
    Head,
    ProtocolError,
    chunk_size,
    split_head,
    whole_chunks,
)
from router.relay.pool import Connection
from router.runtime.cancellation import Cancellation, CooperativeSocket, watch

_READ_BYTES = 65_536
_SEND_BYTES = 262_144
# Up to here, what came with a stream's end waits to be sent together with it.
_WITH_THE_END_BYTES = 16_384
# Of so many so short pieces the kept text is made plain: rarely, as the mean answer of
# the Azure conversation trace is 211 tokens, and before they take much room.
_MOST_PIECES = 211
_SHORT_BYTES = 512
# A reply that is no stream is collected whole, so that it can be had elsewhere
# if the node dies in the middle of it.
MAX_COLLECTED_BYTES = 128 * 1024 * 1024
# What is held of a reply is counted in steps: most hold less, and cost nothing.
_COUNTED_BYTES = 65_536
_HEAD_SECONDS = 10.0  # from its first byte to its last


class LineSink(Protocol):
    """Takes a stream's whole lines, in callbacks of the event loop."""

    def send(self, block: bytes) -> None: ...


class SilencePolicy(Protocol):
    """Says how long a stream may stand still, and when its node counts as dead.

    step_seconds:   how often to ask
    client_seconds: how long a client may take nothing of what there is for it
    """

    @property
    def step_seconds(self) -> float: ...

    @property
    def client_seconds(self) -> float: ...

    def lost(self, silent_seconds: float) -> bool:
        """Say whether to give the node up after so long a silence; must not wait."""


class UpstreamReply:
    """The reading end of a connection.

    head:   None until it is whole
    gate:   set where the reply is a stream; its lines are gathered in `ready`
    broken: why the connection failed; None while it has not
    last:   the lines that came with the end: not sent, the answer's end goes along
    movable: whether another node may go on with it, or begin anew
    evicted: whether it was cut for that
    open_ended: whether its last line cannot be known, as the route is not
    no_room: set where it was ended because the router holds too much already
    held_up: whether its client ever was too slow for it
    runner_died: whether it was cut because another request saw its runner die
    moved_at: when the node took or said something last, or the request began; what
              a stream says behind its first line is the pump's to notice
    """

    def __init__(
        self,
        connection: Connection,
        cancellation: Cancellation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.connection = connection
        self.head: Head | None = None
        self.gate: Framer | None = None
        self.broken: str | None = None
        self.last = b""
        self.bytes_seen = 0
        self.movable = True
        self.evicted = False
        self.open_ended = False
        self.no_room: BodiesFullError | None = None
        self.held_up = False
        self.runner_died = False
        self.moved_at = self._begun_at = clock()
        self._clock = clock
        self._cancellation = cancellation
        self._body: Body | None = None
        self._buffer = b""
        self._head_until: float | None = None
        self._pieces: list[bytes] = []
        self._whole = io.BytesIO()  # put together on the way, and given out uncopied
        self._size = 0
        self._counted = 0
        self._drain: LineSink | None = None
        self._callback: Callable[[], None] | None = None
        self._recv = connection.raw.recv
        self._io = watch(connection.sock.fileno(), 1)
        self._io.start(self._readable)
        self._sending: Any = None
        if connection.unsent:
            self._sending = watch(connection.sock.fileno(), 2)
            self._sending.start(self._send_more)

    @property
    def sending(self) -> bool:
        """Whether a part of the request is still to be taken by the node."""
        return self._sending is not None

    @property
    def mark(self) -> object:
        """Return what differs after the node took or said anything."""
        said = self.gate.last if self.gate else b""
        return self.bytes_seen, len(self.connection.unsent), said

    @property
    def reads(self) -> int | None:
        """Return how often lines of a plain text came, at the speed of its node.

        None where that is not counted, or its client does not take them in time.
        """
        transcript = self.gate.transcript if self.gate else None
        return None if transcript is None or self.held_up else transcript.reads

    @property
    def lines(self) -> int:
        """Return how many came in all; to count them takes 0.1 µs each."""
        return self.gate.transcript.lines if self.gate and self.gate.transcript else 0

    def moved_within(self, seconds: float) -> bool:
        """Say whether the node took or said something of it, before its first line."""
        return self._begun_at < self.moved_at >= self._clock() - seconds

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
        if self.gate is None:  # it is held until this is closed
            whole, self._whole = self._whole, io.BytesIO()
            return whole.getvalue()
        pieces, self._pieces = self._pieces, []
        self._size = 0
        return b"".join(pieces)

    def gather_again(self, body: bytes) -> None:
        """Put back what was taken to be judged."""
        self._pieces.insert(0, body)

    def deliver_to(self, drain: LineSink) -> None:
        """Hand every further block of whole lines to `drain`, in the loop."""
        self._drain = drain
        if not isinstance(drain, Pump) or not drain.chunked:
            return
        if self.gate and self._body and self._body.chunked:
            self._callback = self._express(drain, self.gate, self._body)
            self.pause()
            self.resume()

    def pause(self) -> None:
        self._io.stop()

    def resume(self) -> None:
        if not self.over:
            self._io.start(self._callback or self._readable)

    @property
    def answered(self) -> bool:
        """Whether anything came that a client could be given."""
        return self.presentable or self._drain is not None

    def evict(self) -> bool:
        """End it so that another node goes on; False where that may not be."""
        if self.over or not self.movable:
            return False
        self.evicted = True
        self._break("the node is being emptied")
        return True

    def abandon(self, why: str) -> bool:
        """End it because its runner is dead, movable or not; False if it is over."""
        if self.over:
            return False
        self.runner_died = True
        if self.gate:
            self.gate.failure = why
        self._break(why)
        return True

    def close(self) -> bool:
        """Stop reading; True if the connection may carry another request."""
        self._io.stop()
        self._io.close()
        self._count(0)
        taken = not self.connection.unsent
        self._stop_sending()
        self._drain = self._callback = None  # they point back here
        reusable = self._body is not None and self._body.reusable
        if self.broken is None and reusable and taken:
            return True
        self.connection.close()
        return False

    def outcome(self) -> Outcome:
        """Say how the reply ended, once it is over."""
        if self.evicted:
            return Outcome.EVICTED
        if self.gate and self.gate.failure is not None:
            return Outcome.ERROR_LINE
        if self.broken is not None:
            return Outcome.EOF
        if self.gate and not (self.open_ended or self.gate.finished):
            return Outcome.EOF
        return Outcome.END

    def _send_more(self) -> None:
        connection = self.connection
        try:
            sent = connection.raw.send(connection.unsent[:_SEND_BYTES])
        except BlockingIOError:
            return
        except OSError:
            # It takes no more. What it said before, or its end, is still to be read.
            self._stop_sending()
            return
        connection.unsent = connection.unsent[sent:]
        self.moved_at = self._clock()
        if not connection.unsent:
            self._stop_sending()

    def _stop_sending(self) -> None:
        if self._sending:
            self._sending.stop()
            self._sending.close()
            self._sending = None

    def _readable(self) -> None:
        try:
            data = self._recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(str(error))
            return
        try:
            self._feed(data)
        except ProtocolError as error:
            self._break(str(error))

    def _express(  # noqa: C901 - it only holds the one below
        self, pump: Pump, gate: Framer, body: Body
    ) -> Callable[[], None]:
        """Return a callback for the usual case: whole chunks of whole lines come.

        They go on as they came. One function on purpose, that calls none in Python:
        this is what a token costs. Whatever is not as usual goes the long way.
        """
        recv, put, signs, transcript = self._recv, pump.put, gate.signs, gate.transcript
        pieces = transcript.blocks if transcript else []
        ending = gate.end + b"\r\n"
        usual = body.between_chunks and gate.between_lines

        def readable() -> None:  # noqa: C901
            nonlocal usual
            try:
                data = recv(_READ_BYTES)
                length = len(data)
                if usual and data.endswith(ending):
                    at = data.find(b"\r\n", 0, MOST_SIZE_DIGITS)
                    size = chunk_size(data[:at]) if at > 0 else 0
                    one = size and at + size + 4 == length
                    payload = data[at + 2 : -2] if one else whole_chunks(data)
                    for sign in signs:
                        if sign in payload:
                            payload = b""
                    if payload:
                        gate.before = gate.last
                        gate.last = payload
                        if transcript and length <= _SHORT_BYTES:
                            pieces.append(payload)
                            if len(pieces) > _MOST_PIECES:
                                transcript.compact()
                        elif transcript:
                            transcript.add(payload)
                        pump.moved = True
                        try:
                            sent = put(data)
                        except OSError:  # full, or gone: `write` finds out
                            sent = 0
                        if sent < length:
                            pump.write(data[sent:])
                        return
                self._feed(data)
                usual = body.between_chunks and gate.between_lines
            except BlockingIOError:
                return
            except OSError as error:
                self._break(str(error))
            except ProtocolError as error:
                self._break(str(error))

        return readable

    def _feed(self, data: bytes) -> None:
        if not data:
            self._end_of_connection()
            return
        self.bytes_seen += len(data)
        if self._drain is None:
            self.moved_at = self._clock()
        body = self._body
        if body is None:
            self._buffer += data
            parsed = split_head(self._buffer)
            if parsed is None:
                self._bound_head()
                return
            self.head, data = parsed
            body = self._begin_body(self.head)
        payload = body.feed(data)
        if self.gate:
            payload = self.gate.feed(payload) if payload else b""
        if payload:
            if self._drain and body.ended and len(payload) <= _WITH_THE_END_BYTES:
                self.last = payload
            elif self._drain:
                self._drain.send(payload)
            else:
                self._collect(payload)
        self._count_held()
        if self.over:
            self._io.stop()
            self._cancellation.wake()

    def _bound_head(self) -> None:
        if self._head_until is None:
            self._head_until = self._clock() + _HEAD_SECONDS
        elif self._clock() > self._head_until:
            raise ProtocolError(f"its head is not complete after {_HEAD_SECONDS:g} s")

    def _count_held(self) -> None:
        held = self._size + (self.gate.held_bytes if self.gate else 0)
        if held - self._counted > _COUNTED_BYTES or held < self._counted:
            self._count(held)

    def _count(self, held: int) -> None:
        """Count what is held here; where there is no room, it ends."""
        bodies, more = self.connection.bodies, held - self._counted
        try:
            bodies.hold(more)
        except BodiesFullError as error:
            self.no_room = error
            self._break(str(error))
            return
        self._counted = held

    def _begin_body(self, head: Head) -> Body:
        self._body = body = Body(head)
        self._buffer = b""
        sse = is_sse(head.get("content-type"))
        if sse is not None and head.status == 200:
            self.gate = Framer(sse=sse)
        return body

    def _collect(self, payload: bytes) -> None:
        self._size += len(payload)
        if self.gate:
            self._pieces.append(payload)
            self._cancellation.wake()
            return
        self._whole.write(payload)
        if self._size > MAX_COLLECTED_BYTES:
            raise ProtocolError(f"reply over {MAX_COLLECTED_BYTES} bytes")

    def _end_of_connection(self) -> None:
        if self._body is not None:
            self._body.close()
        if self._body is None or not self._body.ended:
            self._break("the node closed the connection")
        else:
            self._io.stop()
            self._cancellation.wake()

    def _break(self, why: str) -> None:
        self.broken = why
        self._io.stop()
        self._cancellation.wake()


class Pump:
    """Passes a stream's lines to the client until one of a few outcomes.

    What the client does not take waits here, and reading stops until it has:
    a slow client costs one read's worth of memory and holds nobody else.

    chunked: whether the client takes chunks of HTTP
    put:     sends at once what fits; for who sees to the rest by `write`
    moved:   whether anything came, or was taken, since `run` looked last
    """

    def __init__(
        self,
        reply: UpstreamReply,
        client: CooperativeSocket,
        cancellation: Cancellation,
        *,
        chunked: bool,
        clock: Callable[[], float],
    ) -> None:
        self.chunked = chunked
        self.put = client._sock.send  # noqa: SLF001 - must never wait
        self.moved = True
        self._reply = reply
        self._cancellation = cancellation
        self._clock = clock
        self._rest = b""
        self._fd = client.fileno()
        self._io: Any = None  # made when the client is slow for the first time

    def run(self, patience: SilencePolicy) -> Outcome:
        """Pump until the end; all that can be is sent then, but the reply's `last`."""
        self._reply.deliver_to(self)
        self.send(self._reply.take())
        moved_at = self._clock()
        try:
            while not self._reply.over or self._rest:
                if self._cancellation.stopped:
                    return self._cancellation.stopped
                now = self._clock()
                if self.moved:
                    self.moved, moved_at = False, now
                elif self._rest:
                    if now - moved_at >= patience.client_seconds:
                        return Outcome.CLIENT_GONE
                elif patience.lost(now - moved_at):
                    return Outcome.STALLED
                # Tokens only leave a mark; the clock is read a few times a stall.
                self._cancellation.sleep(patience.step_seconds)
        finally:
            self._reply.pause()
            if self._io:
                self._io.stop()
                self._io.close()
        return self._cancellation.stopped or self._reply.outcome()

    def send(self, block: bytes) -> None:
        """Send a block of whole lines, as one chunk where the client knows chunks."""
        if block:
            self.write(b"%x\r\n%b\r\n" % (len(block), block) if self.chunked else block)

    def write(self, data: bytes) -> None:
        """Send at once what fits, and keep the rest."""
        self.moved = True
        if self._rest:
            self._rest += data
            return
        try:
            sent = self.put(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._cancellation.stop(Outcome.CLIENT_GONE)
            return
        if sent < len(data):
            self._hold(data[sent:])

    def _hold(self, rest: bytes) -> None:
        """Stop reading until the client has taken what is left."""
        self._rest = rest
        self._reply.held_up = True
        self._reply.pause()
        self._io = self._io or watch(self._fd, 2)
        self._io.start(self._writable)

    def _writable(self) -> None:
        self._io.stop()
        rest, self._rest = self._rest, b""
        self.write(rest)
        if not self._rest:
            self._reply.resume()
            self._cancellation.wake()
