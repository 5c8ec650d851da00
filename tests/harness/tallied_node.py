"""A played node that answers items after a while, and knows how often each came.

It can die (connections break, the port is shut) and return on the same port.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.harness.http_thread import HttpThread, Quiet
from tests.harness.stopping import Stopping

MODEL = "tallied:latest"


class TalliedNode(Stopping):
    """`seen` counts requests by their id, as they began.

    refuse: the status and text it answers with instead, while it is set
    """

    def __init__(self, name: str, *, slots: int = 4, seconds: float = 0.05) -> None:
        self.name = name
        self.slots = slots
        self.seconds = seconds
        self.seen: Counter[str] = Counter()
        self.refuse: tuple[int, str] | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._gone = threading.Event()
        self._port = 0
        self._listen()

    def _listen(self) -> None:
        self._gone.clear()
        self._http = HttpThread(self._handler(), self._port)
        self._port = self._http.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def entry(self) -> dict[str, object]:
        """Its entry of an inventory."""
        labels = {"node": self.name, "__ollama": self.url, "__slots": str(self.slots)}
        return {"targets": ["127.0.0.1"], "labels": labels}

    def die(self) -> None:
        """Break every connection and shut the port."""
        self._gone.set()
        self._http.stop()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        self._listen()

    def _enter(self, request: str) -> None:
        with self._lock:
            self.seen[request] += 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with node._lock:
                    node._open.add(self.connection)

            def finish(self) -> None:
                with node._lock:
                    node._open.discard(self.connection)
                super().finish()

            def do_GET(self) -> None:
                self.reply(200, _LISTINGS.get(self.path, {}))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                node._enter(self.headers.get("X-Request-Id", ""))
                refused = node.refuse
                if not self.abandoned(node.seconds):
                    self.send(*_told(self.path, json.loads(body), refused))

            def abandoned(self, seconds: float) -> bool:
                """Wait so long; say whether the other end, or this one, went."""
                ready, _, _ = select.select([self.connection], [], [], seconds)
                return bool(ready) or node._gone.is_set()

            def reply(self, status: int, content: object) -> None:
                self.send(status, "application/json", json.dumps(content).encode())

            def send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def stop(self) -> None:
        if not self._gone.is_set():
            self.die()


def write_inventory(path: Path, nodes: Sequence[TalliedNode]) -> Path:
    """Write an inventory of such nodes; JSON is YAML."""
    path.write_text(json.dumps([node.entry for node in nodes]))
    return path


_ENTRY = {"name": MODEL, "model": MODEL, "digest": "d", "size": 1}
_LISTINGS = {
    "/api/version": {"version": "0.17.4"},
    "/api/tags": {"models": [_ENTRY]},
    "/api/ps": {"models": []},
}


def _answer(path: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Say what was asked, so that each answer can be told from every other."""
    if path == "/v1/embeddings":
        return {"object": "list", "data": [{"embedding": [0.5], "index": 0}]}
    if path == "/v1/responses":
        part = {"type": "output_text", "text": f"said {asked['input']}"}
        message = {"type": "message", "content": [part]}
        usage = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
        return {"object": "response", "output": [message], "usage": usage}
    if path == "/v1/completions":
        return {"choices": [{"text": f"said {asked['prompt']}"}], "usage": _USAGE}
    said = {"role": "assistant", "content": f"said {asked['messages'][-1]['content']}"}
    if path == "/api/chat":
        return {"message": said, "done": True, "eval_count": 5, "prompt_eval_count": 3}
    return {"choices": [{"index": 0, "message": said}], "usage": _USAGE}


def _told(
    path: str, asked: dict[str, Any], refused: tuple[int, str] | None
) -> tuple[int, str, bytes]:
    if refused is None:
        return 200, *_said(path, asked)
    return refused[0], "application/json", json.dumps({"error": refused[1]}).encode()


def _said(path: str, asked: dict[str, Any]) -> tuple[str, bytes]:
    """Return the answer's type and body; a stream, where it is asked for, at once."""
    answer = _answer(path, asked)
    whole = json.dumps(answer).encode()
    if not asked.get("stream"):
        return "application/json", whole
    if path == "/api/chat":
        return "application/x-ndjson", whole + b"\n"
    (choice,) = answer["choices"]
    delta = {"index": 0, "delta": choice.get("message"), "text": choice.get("text")}
    lines = [{"choices": [delta]}, {"choices": [], "usage": answer["usage"]}]
    events = [b"data: %b\n\n" % json.dumps(line).encode() for line in lines]
    return "text/event-stream", b"".join(events) + b"data: [DONE]\n\n"


_USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
