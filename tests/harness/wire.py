"""HTTP by hand: for clients that behave as no library would."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(port: int, *, seconds: float = 30) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def post(path: str, body: object, **headers: str) -> bytes:
    """Return a whole request as it goes over the wire."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def read_answer(client: socket.socket) -> Answer:
    """Read one reply whole; OSError or HTTPException where there is none."""
    reply = http.client.HTTPResponse(client)
    reply.begin()
    headers = {name.lower(): value for name, value in reply.getheaders()}
    return Answer(reply.status, headers, reply.read())


def closed(client: socket.socket) -> bool:
    """Wait for the other side's end; False if bytes come instead."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
