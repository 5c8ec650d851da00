"""A real Ollama behind a server that plays a node's troubles.

Whatever is not in trouble is answered by Ollama itself, at an even pace: many streams
of it cost little, and nodes are alike. Failures are played in Ollama's own words.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.harness.ollama import RealOllama
from tests.harness.scripted_node import ScriptedNode

RUNNER_DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations"
    " or an internal error, check ollama server logs for details"
)
TOKENS_PER_SECOND = 40.0
_DIED_IN_STREAM = (
    b'{"error":"an error was encountered while running the model: unexpected EOF"}\n'
)
_TRIAL = "inferops-trial"  # the router's own, which is no client's request
_LOOKS_AGAIN_SECONDS = 0.02


@dataclass(slots=True)
class Asked:
    """One generation that was asked for; `ended_at` once it is over.

    failed: no whole answer was given
    tokens: that the node sent, or generated for a reply in one piece
    load_seconds: as Ollama says
    """

    at: float
    model: str
    ended_at: float | None = None
    failed: bool = False
    tokens: int = 0
    load_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Played:
    """An answer that is not Ollama's, after so many seconds."""

    status: int
    body: bytes
    kind: str = "application/json; charset=utf-8"
    seconds: float = 0.0

    @classmethod
    def error(cls, status: int, text: str, seconds: float = 0.0) -> Played:
        return cls(status, json.dumps({"error": text}).encode(), seconds=seconds)


Play = Callable[[dict[str, Any]], Played | None]


class GoneError(OSError):
    """The client has gone, or the node has."""


class TroubledNode:
    """See the module; all of it may be changed while it runs.

    play:    what is said instead of Ollama's answer, by the request
    slower:  so many times as slow
    asleep:  connections are taken and nothing is said, on those under way as well
    shut:    connections are reset
    silence: seconds before a reply begins
    bytes_per_second: at which bodies are taken
    crashes: of the runner: clients that stream then get its error
    """

    def __init__(self, ollama: RealOllama | ScriptedNode) -> None:
        self.ollama = ollama
        self.asked: list[Asked] = []
        self.crashes = 0
        self.well()
        self._http = _Server(("127.0.0.1", 0), _handler(self))
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def well(self) -> None:
        self.play: Play | None = None
        self.slower = 1.0
        self.asleep = False
        self.shut = False
        self.silence = 0.0
        self.bytes_per_second: float | None = None

    def stop(self) -> None:
        self.well()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def server_bind(self) -> None:
        # What a slow node has not read is not to wait in its kernel.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        super().server_bind()

    def handle_error(self, *_: object) -> None:
        """Stay silent: clients come and go."""


def _handler(node: TroubledNode) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with _reset(self):
                _Exchange(node, self).look()

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            with _reset(self):
                _Exchange(node, self).answer()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler


@contextlib.contextmanager
def _reset(handler: BaseHTTPRequestHandler) -> Iterator[None]:
    """Cut the connection where the exchange broke."""
    try:
        yield
    except (OSError, http.client.HTTPException):
        handler.close_connection = True
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class _Exchange:
    """One request, passed on to Ollama where nothing is played."""

    def __init__(self, node: TroubledNode, handler: BaseHTTPRequestHandler) -> None:
        self._node = node
        self._handler = handler
        self._crashes = node.crashes
        self._asked = Asked(time.monotonic(), "")

    def look(self) -> None:
        """Answer a question that needs no generation."""
        self._check()
        with self._ollama(b"") as reply:
            self._whole(reply.status, reply.read(), reply.headers["Content-Type"])

    def answer(self) -> None:
        body = self._body()
        fields = json.loads(body)
        asked = self._asked
        asked.model = fields.get("model", "")
        if self._counts(fields):
            self._node.asked.append(asked)
        try:
            self._check()
            self._generate(body, fields)
        except (OSError, http.client.HTTPException):
            asked.failed = True
            raise
        finally:
            asked.ended_at = time.monotonic()

    def _counts(self, fields: dict[str, Any]) -> bool:
        """Whether it is a client's generation, or goes on with one."""
        handler = self._handler
        if handler.headers.get("X-Request-Id") == _TRIAL:
            return False
        shown = fields.get("_debug_render_only")
        return handler.path in {"/api/chat", "/api/generate"} and not shown

    def _generate(self, body: bytes, fields: dict[str, Any]) -> None:
        play = self._node.play
        if play is not None and (played := play(fields)) is not None:
            self._asked.failed = True
            self._pause(played.seconds)
            self._whole(played.status, played.body, played.kind)
            return
        self._pause(self._node.silence)
        with self._ollama(body) as reply:
            kind = reply.headers["Content-Type"]
            if reply.headers.get("Transfer-Encoding") == "chunked":
                self._stream(reply, kind)
                return
            data = reply.read()
            self._asked.failed = reply.status != 200
            if b'"eval_count"' in data[-400:]:
                self._take_in(json.loads(data))
                self._pause(self._asked.tokens / TOKENS_PER_SECOND)
            self._whole(reply.status, data, kind)

    def _take_in(self, last: dict[str, Any]) -> None:
        self._asked.tokens = last.get("eval_count", 0)
        self._asked.load_seconds = last.get("load_duration", 0) / 1e9

    def _stream(self, reply: http.client.HTTPResponse, kind: str) -> None:
        """Pass lines on at the node's pace; a runner's death ends them in its words."""
        head = self._handler
        head.send_response(reply.status)
        head.send_header("Content-Type", kind)
        head.send_header("Transfer-Encoding", "chunked")
        head.end_headers()
        for line in reply:
            if self._node.crashes != self._crashes:
                self._asked.failed = True
                self._chunk(_DIED_IN_STREAM)
                break
            if b'"done":true' in line[-800:]:
                self._take_in(json.loads(line))
            else:
                self._asked.tokens += 1
            self._chunk(line)
            self._pause(1 / TOKENS_PER_SECOND)
        head.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self._handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _whole(self, status: int, data: bytes, kind: str) -> None:
        head = self._handler
        head.send_response(status)
        head.send_header("Content-Type", kind)
        head.send_header("Content-Length", str(len(data)))
        head.end_headers()
        if head.command != "HEAD":
            head.wfile.write(data)

    @contextlib.contextmanager
    def _ollama(self, body: bytes) -> Iterator[http.client.HTTPResponse]:
        handler = self._handler
        headers = {"Content-Type": "application/json"} if body else {}
        port = self._node.ollama.port
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        with contextlib.closing(link):
            link.request(handler.command, handler.path, body or None, headers)
            yield link.getresponse()

    def _body(self) -> bytes:
        """Take the body at the node's rate; olla sends it in chunks."""
        if self._handler.headers.get("Transfer-Encoding") != "chunked":
            return self._take(int(self._handler.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self._handler.rfile.readline().partition(b";")[0], 16):
            parts.append(self._take(size))
            self._handler.rfile.readline()
        self._handler.rfile.readline()
        return b"".join(parts)

    def _take(self, left: int) -> bytes:
        rate, parts = self._node.bytes_per_second, []
        while left:
            piece = self._handler.rfile.read1(min(left, 65_536))
            if not piece:
                raise GoneError
            parts.append(piece)
            left -= len(piece)
            if rate is not None:
                time.sleep(len(piece) / rate)
        return b"".join(parts)

    def _pause(self, seconds: float) -> None:
        """Take so long, or longer: as long as the node is asleep, or slower."""
        left, last = seconds, time.monotonic()
        self._check()
        while left > 0:
            wait = min(left * self._node.slower, _LOOKS_AGAIN_SECONDS)
            time.sleep(wait)
            self._check()
            now = time.monotonic()
            left -= (now - last) / self._node.slower
            last = now

    def _check(self) -> None:
        """Raise GoneError where nobody listens, or the node is shut."""
        while True:
            if self._node.shut or self._gone():
                raise GoneError
            if not self._node.asleep:
                return
            self._asked.failed = True
            time.sleep(_LOOKS_AGAIN_SECONDS)

    def _gone(self) -> bool:
        connection = self._handler.connection
        if not select.select([connection], [], [], 0)[0]:
            return False
        return connection.recv(1, socket.MSG_PEEK) == b""
