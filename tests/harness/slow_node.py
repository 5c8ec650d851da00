"""A node behind a slow link: it takes so many bytes of a body in a second."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler

from tests.harness.http_thread import Quiet, Served

MODEL = "vl"
_ENTRY = {"name": f"{MODEL}:latest", "model": f"{MODEL}:latest", "digest": "d"}
_LISTINGS = {
    "/api/version": {"version": "0.17.4"},
    "/api/tags": {"models": [{**_ENTRY, "size": 1}]},
    "/api/ps": {"models": []},
}
_ANSWER = {"message": {"role": "assistant", "content": "ok"}, "done": True}


class SlowNode(Served):
    """Has one model, and says `ok` to whatever it took.

    cut_off: how many bodies broke off
    """

    def __init__(self, bytes_per_second: float) -> None:
        self.rate = bytes_per_second
        self.cut_off = 0
        self._over = threading.Event()
        super().__init__(self._handler())
        self._http.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._reply(_LISTINGS[self.path])

            def do_POST(self) -> None:
                if self._take(int(self.headers["Content-Length"])):
                    self._reply({"model": MODEL, **_ANSWER})
                else:
                    node.cut_off += 1
                    self.close_connection = True

            def _take(self, length: int) -> bool:
                began, taken = time.monotonic(), 0
                while taken < length:
                    try:
                        piece = self.rfile.read1(min(65_536, length - taken))
                    except OSError:
                        return False
                    if not piece or node._over.is_set():
                        return False
                    taken += len(piece)
                    ahead = taken / node.rate - (time.monotonic() - began)
                    node._over.wait(max(0.0, ahead))
                return True

            def _reply(self, answer: object) -> None:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def stop(self) -> None:
        self._over.set()
        super().stop()
