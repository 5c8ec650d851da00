"""A node that lists its models as Ollama does, and answers as a test's script says."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.harness.http_thread import Quiet, Served

JSON = "application/json; charset=utf-8"
Script = Callable[["Exchange"], None]


class Exchange:
    """One POST: what was asked, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self.path = handler.path
        self.headers = dict(handler.headers.items())
        self.body = handler.rfile.read(int(handler.headers["Content-Length"] or 0))

    @property
    def fields(self) -> dict[str, Any]:
        return json.loads(self.body)

    def reply(self, status: int, body: object, kind: str = JSON) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._head(status, kind, ("Content-Length", str(len(data))))
        self._handler.wfile.write(data)

    def error(self, status: int, text: str) -> None:
        """Answer as Ollama does, in the dialect of the route."""
        openai = self.path.startswith("/v1/")
        self.reply(status, {"error": {"message": text} if openai else text})

    def stream(self, pieces: Iterable[bytes], kind: str = "application/x-ndjson"):
        """Send each piece as one chunk."""
        self._head(200, kind, ("Transfer-Encoding", "chunked"))
        for piece in pieces:
            self._handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self._handler.wfile.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """Cut the connection, with nothing said."""
        linger = struct.pack("ii", 1, 0)
        connection = self._handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._handler.close_connection = True
        connection.close()

    def answer(self, text: str = "hi") -> None:
        """Answer well, as a whole or as a stream."""
        if self.path.startswith("/v1/"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            self.reply(200, {"id": "c", "choices": [choice], "usage": usage})
            return
        message = {"role": "assistant", "content": text}
        told = {"model": self.fields["model"], "message": message, "response": text}
        told |= {"done": True, "done_reason": "stop", "eval_count": 1}
        if self.fields.get("stream", True):
            self.stream([json.dumps(told).encode() + b"\n"])
        else:
            self.reply(200, told)

    def _head(self, status: int, kind: str, *headers: tuple[str, str]) -> None:
        self._handler.send_response(status)
        for name, value in (("Content-Type", kind), *headers):
            self._handler.send_header(name, value)
        self._handler.end_headers()


def answers(seconds: float = 0.0) -> Script:
    """Answer well after a while."""

    def script(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer()

    return script


class ScriptedNode(Served):
    """Answers as its script says; `asked` has every POST, trials included."""

    def __init__(
        self,
        script: Script,
        *,
        models: Iterable[str] = ("m:latest",),
        digest: str = "d1",
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.script = script
        self.asked: list[Exchange] = []
        entries = [{"name": m, "model": m, "digest": digest, "size": 1} for m in models]
        self._listings = {
            "/api/version": {"version": "0.17.4"},
            "/api/tags": {"models": entries},
            "/api/ps": {"models": entries},
        }
        super().__init__(self._handler(), port, host)

    @property
    def requests(self) -> list[Exchange]:
        """Return what clients have asked: no trials."""
        trial = "inferops-trial"
        return [e for e in self.asked if e.headers.get("X-Request-Id") != trial]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps(node._listings.get(self.path, {})).encode()
                self.send_response(200)
                self.send_header("Content-Type", JSON)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                exchange = Exchange(self)
                node.asked.append(exchange)
                node.script(exchange)

        return Handler
