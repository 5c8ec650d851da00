"""Exchange small JSON documents with nodes; one connection each time.

For polls, checks and calls that need no slot: the whole exchange is bounded, not
each read of it, and so is the size. Each connects anew, because whether a node
takes a connection is what a poll asks. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from router.config.access import authorization, secured
from router.config.address import endpoint
from router.model import Node
from router.runtime.keep_alive import keep_alive
from router.text.json_scan import values_at_most

_MOST_BYTES = 16 * 1024 * 1024
_MOST_PARSED_BYTES = 4 * 1024 * 1024
_MOST_VALUES = 100_000  # of 3,000 models and more
_CHUNK = 64 * 1024


class PollError(Exception):
    """A node did not answer, or not with what was asked for."""


class PollRefusedError(PollError):
    """The node refused the connection: nobody is there."""


class _Wire(io.RawIOBase):
    """A socket whose every read and write ends at one deadline."""

    def __init__(self, peer: socket.socket, left: Callable[[], float]) -> None:
        self._peer = peer
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._peer.settimeout(self._left())
        return self._peer.recv_into(buffer)

    def sendall(self, content: bytes) -> None:
        self._peer.settimeout(self._left())
        self._peer.sendall(content)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _CHUNK)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as it came."""

    status: int
    content_type: str
    body: bytes


def ask(
    method: str,
    node: Node,
    path: str,
    data: bytes | None,
    timeout_seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Exchange JSON that is not looked into. Raises PollError, PollRefusedError."""
    deadline = clock() + timeout_seconds

    def left() -> float:
        remaining = deadline - clock()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    try:
        return _exchange(method, node, path, data, left)
    except ConnectionRefusedError as error:
        raise PollRefusedError("the connection was refused") from error
    except TimeoutError as error:
        raise PollError(f"no answer within {timeout_seconds:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise PollError(f"{type(error).__name__}: {error}") from error


def get_json(
    node: Node,
    path: str,
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """Fetch and parse; raises PollError, PollRefusedError when nobody listens."""
    status, content = exchange("GET", node, path, timeout_seconds, clock=clock)
    if status != http.client.OK:
        raise PollError(f"status {status}")
    return content


def exchange(
    method: str,
    node: Node,
    path: str,
    timeout_seconds: float,
    *,
    body: object = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, Any]:
    """Ask, and give the status and what came; None where nothing did.

    Raises PollError: no answer in time, or one that is no JSON though it was well.
    """
    data = None if body is None else orjson.dumps(body)
    answer = ask(method, node, path, data, timeout_seconds, clock=clock)
    try:
        return answer.status, _parsed(answer.status, answer.body)
    except orjson.JSONDecodeError as error:
        raise PollError(f"not JSON: {error}") from error


def _parsed(status: int, content: bytes) -> Any:
    if len(content) > _MOST_PARSED_BYTES:
        raise PollError(f"more than {_MOST_PARSED_BYTES} bytes of JSON")
    if values_at_most(content) > _MOST_VALUES:
        raise PollError(f"more than {_MOST_VALUES} values")
    try:
        return orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        if status < http.client.BAD_REQUEST:
            raise
        return content.decode("utf-8", "replace")


def _exchange(
    method: str,
    node: Node,
    path: str,
    data: bytes | None,
    left: Callable[[], float],
) -> Answer:
    parts = urlsplit(node.url)
    head = (
        f"{method} {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Accept: application/json\r\nConnection: close\r\n"
    )
    shown = authorization(node.access)
    if shown is not None:
        head += f"Authorization: {shown}\r\n"
    if data is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    with _connected(node, left) as peer:
        wire = _Wire(peer, left)
        wire.sendall(head.encode() + b"\r\n" + (data or b""))
        with http.client.HTTPResponse(wire, method=method) as response:  # type: ignore[arg-type]
            response.begin()
            content_type = response.getheader("content-type", "")
            return Answer(response.status, content_type, _body(response))


def _connected(node: Node, left: Callable[[], float]) -> socket.socket:
    """Connect, and shake hands where the node has TLS. Raises OSError."""
    host, port, secure = endpoint(node.url)
    plain = socket.create_connection((host, port), timeout=left())
    keep_alive(plain)
    return secured(plain, host, node.access) if secure else plain


def _body(response: http.client.HTTPResponse) -> bytes:
    body = response.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise PollError(f"more than {_MOST_BYTES} bytes")
    return body
