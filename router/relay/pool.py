"""Connections to the nodes' Ollama: pooled, keep-alive, HTTP/1.1.

Bytes go out here; the event loop reads what comes back (`reply.py`).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast
from urllib.parse import urlsplit

from gevent import socket as cooperative

from router.cancellation import CooperativeSocket
from router.config.access import authorization
from router.errors import MaybeSentError, NotSentError
from router.model import NO_ACCESS, Node
from router.relay import tls
from router.server.body_budget import Bodies

# Never more than its slots, for as many were in use at one time.
_IDLE_PER_NODE = 1024
# Not worth a look: should it be closed all the same, the request is sent again.
_SURELY_ALIVE_SECONDS = 0.5

_COPIED_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Message:
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


@dataclass(slots=True, eq=False)
class Connection:
    """A socket to a node; `reused` ones may turn out to be dead on first use.

    address: the node's base URL: one that has moved is not asked there again
    bodies: where the bytes of its replies are counted while they are held
    """

    address: str
    sock: CooperativeSocket
    reused: bool
    idle_since: float = 0.0
    bodies: Bodies = field(default_factory=Bodies)

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
        self, connect_timeout_seconds: float, bodies: Bodies | None = None
    ) -> None:
        self.connect_timeout_seconds = connect_timeout_seconds
        self._bodies = bodies or Bodies()
        self._idle: dict[str, deque[Connection]] = defaultdict(deque)

    def send(self, node: Node, message: Message, *, fresh: bool) -> Connection:
        """Send a request, on an idle connection if not to be on a `fresh` one.

        Raises NotSentError (the node cannot be reached: nothing was sent) or
        MaybeSentError (it broke while sending).
        """
        try:
            pieces = message.encode(node)
        except OSError as error:
            raise NotSentError(f"{node.name}: {error}") from error
        idle = None if fresh else self._take_idle(node)
        connection = idle or self._connect(node)
        try:
            for piece in pieces:
                self._send(connection, piece)
        except OSError as error:
            connection.close()
            if idle:
                return self.send(node, message, fresh=True)
            raise MaybeSentError(f"{node.name}: sending failed: {error}") from error
        return connection

    def _send(self, connection: Connection, data: bytes) -> None:
        """Send at once what fits, which is nearly always all of it."""
        try:
            sent = connection.raw.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            connection.sock.settimeout(self.connect_timeout_seconds)
            connection.sock.sendall(memoryview(data)[sent:])

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
            rested = time.monotonic() - connection.idle_since
            if rested < _SURELY_ALIVE_SECONDS or _alive(connection.raw):
                return connection
            connection.close()
        return None

    def _connect(self, node: Node) -> Connection:
        try:
            sock = _opened(node, self.connect_timeout_seconds)
        except OSError as error:
            raise NotSentError(f"{node.name}: cannot connect: {error}") from error
        socket_ = cast("CooperativeSocket", sock)
        return Connection(node.url, socket_, reused=False, bodies=self._bodies)


def _opened(node: Node, seconds: float) -> cooperative.socket:
    parts = urlsplit(node.url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    sock = _connected((host, port), seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap(sock, host, node.access, seconds) if secure else sock


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
