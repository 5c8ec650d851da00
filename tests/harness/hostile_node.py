"""A node that takes anything, and whose answers are made to do harm."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

from tests.harness.http_thread import Quiet, Served

MIB = 1024 * 1024
JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"

Answer = tuple[int, dict[str, str], Iterator[bytes]]


def repeated(unit: bytes, size: int) -> Iterator[bytes]:
    """Yield `size` bytes of a unit, in pieces."""
    piece = unit * (65_536 // len(unit))
    for _ in range(size // len(piece) + 1):
        yield piece


class HostileNode(Served):
    """Answers each POST by its model; `listing` names the models that it has.

    answers: what makes an answer, by the model that the body names
    polls: how often it was asked for its listing
    asked: the paths of all other requests, in order
    """

    def __init__(
        self, answers: dict[str, Callable[[], Answer]], version: str = "0.17.4"
    ) -> None:
        self.answers = answers
        self.version = version
        self.asked: list[str] = []
        self.polls = 0
        self.listing = json.dumps({"models": [_entry(name) for name in answers]})
        super().__init__(_handler(self))

    def answer_to(self, body: bytes) -> Answer:
        for name, make in self.answers.items():
            if f'"{name}"'.encode() in body[:200] + body[-200:]:
                return make()
        return 404, {"Content-Type": JSON}, iter([b'{"error":"not found"}'])


def _entry(name: str) -> dict[str, object]:
    return {"name": f"{name}:latest", "digest": "d", "size": 1}


def _handler(node: HostileNode) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            listings = {
                "/api/version": json.dumps({"version": node.version}),
                "/api/tags": node.listing,
                "/api/ps": '{"models":[]}',
            }
            node.polls += self.path == "/api/tags"
            body = listings[self.path].encode()
            self._send(200, {"Content-Type": JSON}, iter([body]))

        def do_POST(self) -> None:
            node.asked.append(self.path)
            left, body = int(self.headers["Content-Length"]), b""
            while left:
                piece = self.rfile.read(min(left, MIB))
                if not piece:
                    return
                left -= len(piece)
                body = (body + piece)[:200] + (body + piece)[-200:]
            self._send(*node.answer_to(body))

        def _send(
            self, status: int, headers: dict[str, str], pieces: Iterator[bytes]
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)

    return Handler
