"""A node that keeps the bytes it is sent, and answers with bytes of the test's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from tests.harness.http_thread import Quiet, Served


@dataclass(frozen=True)
class Sent:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


class RecordingNode(Served):
    """Has one model; every POST gets the answer that is set, or that is made for it.

    answer: bytes, or what makes an answer's pieces and its type; each goes out at once
    """

    def __init__(self, model: str) -> None:
        self.sent: list[Sent] = []
        self.answer: bytes | Callable[[Sent], tuple[Iterable[bytes], str]] = b"{}"
        self.content_type = "application/json; charset=utf-8"
        entry = {"name": model, "model": model, "digest": "d", "size": 1}
        self._listings = {
            "/api/version": {"version": "0.17.4"},
            "/api/tags": {"models": [entry]},
            "/api/ps": {"models": []},
        }
        super().__init__(self._handler())
        self.address = f"127.0.0.1:{self.port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps(node._listings[self.path]).encode()
                self.reply(body, "application/json; charset=utf-8")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sent = Sent(self.path, dict(self.headers.items()), body)
                node.sent.append(sent)
                if callable(node.answer):
                    self.reply_in_pieces(*node.answer(sent))
                else:
                    self.reply(node.answer, node.content_type)

            def reply(self, body: bytes, content_type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def reply_in_pieces(
                self, pieces: Iterable[bytes], content_type: str
            ) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Connection", "close")
                self.end_headers()
                with contextlib.suppress(OSError):  # the router has heard enough
                    for piece in pieces:
                        self.wfile.write(piece)

        return Handler
