"""Connections to the nodes' Ollama: pooled, keep-alive, HTTP/1.1.

A request begins to go out here. The event loop sends what the kernel did not take at
once, and reads what comes back (`router.relay.upstream`).
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from gevent import socket as cooperative

from router.config.access import authorization
from router.config.address import endpoint
from router.errors import MaybeSentError, NotSentError
from router.model import NO_ACCESS, Cause, Node
from router.relay import tls
from router.runtime.cancellation import CooperativeSocket
from router.runtime.keep_alive import keep_alive
from router.server.body_budget import BodyBudget

# Never more than its slots, for as many were in use at one time.
_IDLE_PER_NODE = 1024
# Not worth a look: should it be closed all the same, the request is sent again.
_SURELY_ALIVE_SECONDS = 0.5

_COPIED_BYTES = 16_384
_NAMED_SECONDS = 5.0


class UpstreamRequest(NamedTuple):
    """A request as it goes to a node; `headers` without Host and Content-Length."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def encode(self, node: Node) -> tuple[bytes, ...]:
        """Return what goes out; a large body by itself, so that it is not copied.

        Raises OSError where the node's login cannot be read.
        """
        parts = urlsplit(node.url)
        # The node's own address: Ollama on loopback answers any other Host by 403.
        lines = [
            f"{self.method} {parts.path}{self.path} HTTP/1.1",
            f"Host: {parts.netloc}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if node.access is not NO_ACCESS and (shown := authorization(node.access)):
            lines.append(f"Authorization: {shown}")
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        if len(self.body) > _COPIED_BYTES:
            return head, self.body
        return (head + self.body,)


_NOTHING = memoryview(b"")


@dataclass(slots=True, eq=False)
class Connection:
    """A socket to a node; `reused` ones may turn out to be dead on first use.

    address: the node's base URL: one that has moved is not asked there again
    until:   how long it is used again; a name may lead somewhere else by then
    bodies: where the bytes of its replies are counted while they are held
    unsent: the rest of a request that the node has not taken yet
    """

    address: str
    sock: CooperativeSocket
    reused: bool
    until: float = math.inf
    idle_since: float = 0.0
    bodies: BodyBudget = field(default_factory=BodyBudget)
    unsent: memoryview = _NOTHING

    @property
    def raw(self) -> socket.socket:
        return self.sock._sock  # noqa: SLF001 - read by the event loop's callbacks

    def close(self) -> None:
        cast("cooperative.socket", self.sock).close()


class Backends:
    """Idle connections by node, newest first.

    bodies: counts what is held of replies, and bounds it
    """

    def __init__(
        self, connect_timeout_seconds: float, bodies: BodyBudget | None = None
    ) -> None:
        self.connect_timeout_seconds = connect_timeout_seconds
        self._bodies = bodies or BodyBudget()
        self._idle: dict[str, deque[Connection]] = defaultdict(deque)

    def send(self, node: Node, message: UpstreamRequest, *, fresh: bool) -> Connection:
        """Begin a request, on an idle connection if not to be on a `fresh` one.

        What does not go out at once is the connection's `unsent`: who reads the reply
        sends it. Raises NotSentError (the node cannot be reached: nothing was sent)
        or MaybeSentError (it broke at once).
        """
        try:
            pieces = message.encode(node)
        except OSError as error:
            raise NotSentError(f"{node.name}: {error}") from error
        idle = None if fresh else self._take_idle(node)
        connection = idle or self._connect(node)
        try:
            connection.unsent = _send(connection.raw, pieces)
        except OSError as error:
            connection.close()
            if idle:
                return self.send(node, message, fresh=True)
            text = f"{node.name}: sending failed: {error}"
            raise MaybeSentError(text, Cause.RESET) from error
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose reply is whole."""
        idle = self._idle[connection.address]
        if len(idle) >= _IDLE_PER_NODE:
            connection.close()
            return
        connection.reused = True
        connection.idle_since = time.monotonic()
        idle.append(connection)

    def close(self) -> None:
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _take_idle(self, node: Node) -> Connection | None:
        idle = self._idle[node.url]
        while idle:
            connection = idle.pop()
            now = time.monotonic()
            rested = now - connection.idle_since
            if now < connection.until and (
                rested < _SURELY_ALIVE_SECONDS or _alive(connection.raw)
            ):
                return connection
            connection.close()
        return None

    def _connect(self, node: Node) -> Connection:
        try:
            sock = _opened(node, self.connect_timeout_seconds)
        except OSError as error:
            raise NotSentError(f"{node.name}: cannot connect: {error}") from error
        socket_ = cast("CooperativeSocket", sock)
        named = _family(endpoint(node.url)[0]) is None
        until = time.monotonic() + _NAMED_SECONDS if named else math.inf
        return Connection(
            node.url, socket_, reused=False, until=until, bodies=self._bodies
        )


def _opened(node: Node, seconds: float) -> cooperative.socket:
    host, port, secure = endpoint(node.url)
    sock = _connected((host, port), seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(sock)
    return tls.wrap(sock, host, node.access, seconds) if secure else sock


def _send(raw: socket.socket, pieces: tuple[bytes, ...]) -> memoryview:
    """Send at once what fits, which is nearly always all of it; return the rest."""
    for at, piece in enumerate(pieces):
        try:
            sent = raw.send(piece)
        except BlockingIOError:
            sent = 0
        if sent < len(piece):
            rest = memoryview(piece)[sent:]
            more = pieces[at + 1 :]
            return memoryview(b"".join((rest, *more))) if more else rest
    return _NOTHING


def _connected(address: tuple[str, int], seconds: float) -> cooperative.socket:
    """Connect; a name is looked up in a native thread, an address is not."""
    family = _family(address[0])
    if family is None:
        return cooperative.create_connection(address, seconds)
    sock = cooperative.socket(family, socket.SOCK_STREAM)
    sock.settimeout(seconds)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@lru_cache(maxsize=1024)
def _family(host: str) -> socket.AddressFamily | None:
    """Tell the kind of an address; None where it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return family
    return None


def _alive(raw: socket.socket) -> bool:
    """An idle connection has nothing to say; bytes or an end mean it is spent."""
    try:
        raw.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
