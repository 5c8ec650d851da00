"""GET a small JSON document within a total deadline; one connection each time.

For polls of nodes: the whole exchange is bounded, not each read of it, and so is
the size. Each poll connects anew, because whether a node takes a connection is
what it asks. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

__all__ = ["PollError", "PollRefusedError", "get_json"]

_MOST_BYTES = 16 * 1024 * 1024
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


def get_json(
    url: str, timeout_seconds: float, clock: Callable[[], float] = time.monotonic
) -> Any:
    """Fetch and parse; raises PollError, PollRefusedError when nobody listens."""
    deadline = clock() + timeout_seconds

    def left() -> float:
        remaining = deadline - clock()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    try:
        return orjson.loads(_exchange(url, left))
    except ConnectionRefusedError as error:
        raise PollRefusedError("the connection was refused") from error
    except TimeoutError as error:
        raise PollError(f"no answer within {timeout_seconds:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise PollError(f"{type(error).__name__}: {error}") from error
    except orjson.JSONDecodeError as error:
        raise PollError(f"not JSON: {error}") from error


def _exchange(url: str, left: Callable[[], float]) -> bytes:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    with socket.create_connection(address, timeout=left()) as peer:
        wire = _Wire(peer, left)
        wire.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Accept: application/json\r\nConnection: close\r\n\r\n".encode()
        )
        with http.client.HTTPResponse(wire, method="GET") as response:  # type: ignore[arg-type]
            response.begin()
            if response.status != http.client.OK:
                raise PollError(f"status {response.status}")
            return _body(response)


def _body(response: http.client.HTTPResponse) -> bytes:
    body = response.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise PollError(f"more than {_MOST_BYTES} bytes")
    return body
