"""What a request's greenlet sleeps on, and the watch over its client's socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent.hub import Waiter

from router.errors import InferOpsError
from router.model import Outcome


class CancelledError(InferOpsError):
    """The request is over for a reason that is not the node's."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class CooperativeSocket(Protocol):
    """gevent's socket: `_sock` is the real, non-blocking one beneath it."""

    _sock: socket.socket

    def fileno(self) -> int: ...

    def sendall(self, data: bytes | memoryview) -> None: ...

    def settimeout(self, value: float | None) -> None: ...


def watch(fd: int, events: int) -> Any:
    """Return an event loop watcher; 1 is readable, 2 is writable."""
    return gevent.get_hub().loop.io(fd, events)


class Cancellation:
    """Wakes a greenlet from callbacks of the event loop.

    A nudge says "look again"; a stop is final, and the first one counts. One greenlet
    sleeps on it: gevent's Event, which any number may wait for, costs twice as much.
    """

    __slots__ = ("_waiter", "_woken", "stopped")

    def __init__(self) -> None:
        self._waiter: Waiter[None] | None = None
        self._woken = False
        self.stopped: Outcome | None = None

    def wake(self) -> None:
        self._woken = True
        sleeper, self._waiter = self._waiter, None
        if sleeper is not None:
            sleeper.hub.loop.run_callback(sleeper.switch, None)

    def stop(self, outcome: Outcome) -> None:
        self.stopped = self.stopped or outcome
        self.wake()

    def check(self) -> None:
        """Raises StoppedError when the request is stopped."""
        if self.stopped:
            raise CancelledError(self.stopped)

    def sleep(self, seconds: float) -> None:
        """Sleep until nudged, stopped, or the time is over."""
        if self.stopped is None and not self._woken:
            hub = gevent.get_hub()
            sleeper: Waiter[None] = Waiter(hub)
            self._waiter = sleeper
            timer = hub.loop.timer(seconds)
            timer.start(self.wake)
            try:
                sleeper.get()
            finally:
                self._waiter = None
                timer.stop()
                timer.close()
        self._woken = False

    def until(
        self, ready: Callable[[], bool], deadline: float, clock: Callable[[], float]
    ) -> bool:
        """Sleep until `ready`; False once `clock` has passed the deadline.

        Raises StoppedError when the request is stopped first.
        """
        while not ready():
            self.check()
            left = deadline - clock()
            if left <= 0:
                return False
            self.sleep(left)
        return True


class ClientWatch:
    """Notices a client that goes away, in the queue and in prefill too.

    Ollama sends no byte before the first token: without this a client that
    left would keep its slot until then.
    """

    def __init__(self, client: CooperativeSocket, cancellation: Cancellation) -> None:
        self._raw = client._sock  # noqa: SLF001 - a peek must never switch
        self._cancellation = cancellation
        self._io = watch(client.fileno(), 1)
        self._io.start(self._readable)

    def _readable(self) -> None:
        try:
            data = self._raw.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        # Bytes are a pipelined request: stop, or the loop would spin on them.
        self._io.stop()
        if not data:
            self._cancellation.stop(Outcome.CLIENT_GONE)

    def close(self) -> None:
        self._io.stop()
        self._io.close()
